//! Tables that are damaged themselves, and of which nothing can be planned.
