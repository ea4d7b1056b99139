"""Series in memory or on disk, seen as one thing: values with NaN where nothing was observed."""
