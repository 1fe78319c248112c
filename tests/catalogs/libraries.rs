//! Types whose library is missing.
