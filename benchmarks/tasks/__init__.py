"""How good the answers are on real tasks, beside what other methods reach."""
