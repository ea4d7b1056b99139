"""One long series with its time axis spread over several devices.

Each device eliminates its own stretch of time; the short chain of stretches is gathered and solved by all of them; each
fills in its own. The recursions are those of one device (``scans``): only the grid knows of the devices.
"""

from dataclasses import replace

import jax
from jax.sharding import Mesh, PartitionSpec

from svae_cli.inference.gaussian import Potential
from svae_cli.inference.grid import Plan
from svae_cli.inference.prior import LinearGaussianPrior
from svae_cli.inference.smooth import Posterior, chain_of, posterior_of, prior_entropy, smooth


def smooth_sharded(prior: LinearGaussianPrior, potentials: Potential, mesh: Mesh, *, axis: str = "time") -> Posterior:
    """``smooth`` with time spread over ``axis`` of ``mesh``; the arrays of the posterior stay spread.

    The number of steps must be a multiple of the number of devices: append zero potentials, which change nothing.
    Potentials that already lie on the devices are not moved.

    Raises:
        ValueError: the devices do not divide the steps, or the prior varies in time.
    """
    steps, devices = potentials.shift.shape[0], mesh.shape[axis]
    if steps % devices:
        raise ValueError(f"{steps} steps on {devices} devices: expected a multiple; append zero potentials")
    if prior.dynamics.ndim > 2 or prior.bias.ndim > 1 or prior.noise_cov.ndim > 2:
        raise ValueError("the prior varies in time; expected constant dynamics, bias and noise covariance")

    def local(prior: LinearGaussianPrior, potentials: Potential) -> Posterior:
        posterior = posterior_of(chain_of(prior, potentials, Plan("auto", axis)), prior_entropy(prior, steps))
        sums = [jax.lax.psum(x, axis) for x in (posterior.log_normalizer, posterior.log_det)]
        return replace(posterior, log_normalizer=sums[0], log_det=sums[1])

    spread, whole = PartitionSpec(axis), PartitionSpec()
    specs = jax.tree.map(lambda x: spread if x.ndim else whole, jax.eval_shape(smooth, prior, potentials))
    specs = replace(specs, plan=Plan("auto", axis))
    run = jax.shard_map(local, mesh=mesh, in_specs=(whole, spread), out_specs=specs, check_vma=False)
    return replace(run(prior, potentials), plan=Plan("auto"))
