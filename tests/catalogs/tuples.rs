//! One damaged tuple of a catalog.
