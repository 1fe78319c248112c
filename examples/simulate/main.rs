//! To be: prints the reads of a salvage whose damage a map file describes.

fn main() {}
