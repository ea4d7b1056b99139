"""Networks between latent states and data, likelihoods, and the model that joins them."""
