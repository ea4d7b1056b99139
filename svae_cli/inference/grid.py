"""How (lane, time) is laid out for a computation: time cut into chunks that run side by side as more lanes.

Everything that is local to a step works on all chunks at once; what looks at a neighbouring step uses ``ahead`` and
``behind``, which cross the borders between chunks; the recursions over time are in ``scans``.
"""

from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp

from svae_cli.inference.lanes import LANE_BLOCK, First, Layout, layout_for

Method = Literal["auto", "sequential", "parallel"]

SHORTEST_CHUNK = 8
_FEW_LANES = 2  # so many leave room in the vector registers


class Plan(NamedTuple):
    """How to go through time.

    Attributes:
        method: see ``choose_chunks``.
        axis: name of the device axis that holds time, inside ``shard_map``; None on one device.
    """

    method: Method = "auto"
    axis: str | None = None


def choose_chunks(method: Method, latent_dim: int, lanes: int, steps: int) -> int:
    """Into how many chunks to cut time.

    "sequential" cuts none. "parallel" cuts sqrt(2 steps), which makes the depth, 2 steps / chunks + chunks, least; it
    grows as sqrt(steps). "auto" is "parallel" on an accelerator, where depth is what costs. On a CPU work is what
    costs: there it fills the vector registers and no more, which for larger matrices (``First``) a single lane does.
    From three lanes on they are full enough: in chunks a step takes more than twice the work.
    """
    most = max(steps // SHORTEST_CHUNK, 1)
    if method == "sequential":
        return 1
    if method == "parallel" or jax.default_backend() != "cpu":
        return min(max(round((2 * steps) ** 0.5), 1), most)
    if lanes > _FEW_LANES or layout_for(latent_dim) is First:
        return 1
    return min(LANE_BLOCK // lanes, most)


class Grid(NamedTuple):
    """Lanes and chunks of one call.

    Attributes:
        layout: of the arrays inside.
        lanes: chains outside.
        steps: time steps T outside.
        chunks: pieces of each chain (on this device); inside there are lanes * chunks lanes.
        axis: device axis that holds further pieces, or None.
    """

    layout: Layout
    lanes: int
    steps: int
    chunks: int
    axis: str | None = None

    @classmethod
    def of(cls, latent_dim: int, plan: Plan, steps: int, *groups) -> "Grid":
        """For groups of (lane, time, ...) arrays; time has length 1 in what is constant."""
        arrays = [x for group in groups for x in group]
        lanes = max(x.shape[0] for x in arrays)
        shared_path = lanes > 1 and any(x.shape[0] == 1 and x.shape[1] > 1 for x in arrays)
        chunks = 1 if shared_path else choose_chunks(plan.method, latent_dim, lanes, steps)
        return cls(layout_for(latent_dim), lanes, steps, chunks, plan.axis)

    @property
    def whole(self) -> bool:
        """Whether each chain is in one piece."""
        return self.chunks == 1 and self.axis is None

    @property
    def length(self) -> int:
        """Steps of a chunk."""
        return -(-self.steps // self.chunks)

    def enter(self, x, *, copies: bool = False):
        """(lane, time, ...) into the layout.

        Steps beyond the last (and the transition out of the last) are filled with zeros, or with ``copies`` of it.
        """
        if x.shape[1] == 1 and self.steps > 1:
            return self.layout.enter(jnp.repeat(x, self.chunks, axis=0) if x.shape[0] > 1 else x)
        missing = self.chunks * self.length - x.shape[1]
        widths = [(0, 0), (0, missing)] + [(0, 0)] * (x.ndim - 2)
        x = jnp.pad(x, widths, mode="edge" if copies and x.shape[1] else "constant")
        return self.layout.enter(x.reshape(x.shape[0] * self.chunks, self.length, *x.shape[2:]))

    def leave(self, x, like=None):
        """Back to (lane, time, ...); with as many steps as ``like``, summed over time if that has one."""
        time = self.steps if like is None else like.shape[1]
        if time == 1 and self.steps > 1:
            x = jnp.sum(x, axis=0, keepdims=True)
            x = self._outside(x)
            return jnp.sum(x, axis=1)
        x = self._outside(x)
        return x.reshape(x.shape[0], -1, *x.shape[3:])[:, :time]

    def leave_first(self, x):
        """The first step alone, back to (lane, 1, ...); zero on the devices that do not hold it."""
        first = self.leave(x)[:, :1]
        if self.axis is None:
            return first
        return jnp.where(jax.lax.axis_index(self.axis) == 0, first, jnp.zeros_like(first))

    def _outside(self, x):
        """(time, lanes inside) -> (lane, chunk, time, ...)."""
        x = self.layout.leave(x, self.lanes * self.chunks)
        return x.reshape(-1, self.chunks, *x.shape[1:])

    def heads(self, x):
        """One value a chunk, in the layout without time -> all chunks of all devices, as time in the layout."""
        x = self._outside(x[None])[:, :, 0]
        return self.layout.enter(x if self.axis is None else jax.lax.all_gather(x, self.axis, axis=1, tiled=True))

    def unheads(self, x):
        """The inverse of ``heads``; each device takes its own."""
        x = self.layout.leave(x, self.lanes)
        if self.axis is not None:
            x = jax.lax.dynamic_slice_in_dim(x, jax.lax.axis_index(self.axis) * self.chunks, self.chunks, axis=1)
        return self.layout.enter(x.reshape(-1, 1, *x.shape[2:]))[0]

    def ahead(self, x):
        """x_{t+1} at every t, zero at the end; what is constant in time stays as it is."""
        if x.shape[0] == 1 and self.length > 1:
            return x
        if self.whole:
            return jnp.concatenate([x[1:], jnp.zeros_like(x[:1])])
        heads = self.heads(x[0])
        last = self.unheads(jnp.concatenate([heads[1:], jnp.zeros_like(heads[:1])]))
        return jnp.concatenate([x[1:], last[None]])

    def behind(self, x, first=None):
        """x_{t-1} at every t, ``first`` (or zero) at the start; what is constant in time stays as it is."""
        if x.shape[0] == 1 and self.length > 1:
            return x
        heads = x[-1:] if self.whole else self.heads(x[-1])
        start = jnp.zeros_like(heads[:1]) if first is None else jnp.broadcast_to(first, heads[:1].shape)
        heads = jnp.concatenate([start, heads[:-1]])
        return jnp.concatenate([heads if self.whole else self.unheads(heads)[None], x[:-1]])
