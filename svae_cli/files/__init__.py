"""Everything that touches a file: the only place that imports h5py."""
