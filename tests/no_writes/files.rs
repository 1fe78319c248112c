//! The files of a data directory, held against each other.

use crate::kit::Server;
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// Every file of a data directory, by the sum of its bytes.
pub(super) fn files(server: &Server) -> BTreeMap<String, Vec<u8>> {
    fn walk(folder: &Path, root: &Path, found: &mut BTreeMap<String, Vec<u8>>) {
        for entry in std::fs::read_dir(folder).expect("a folder").flatten() {
            let path = entry.path();
            if path.is_dir() {
                walk(&path, root, found);
                continue;
            }
            let name = path.strip_prefix(root).expect("inside").display().to_string();
            found.insert(name, Sha256::digest(std::fs::read(&path).expect("a file")).to_vec());
        }
    }
    let mut found = BTreeMap::new();
    walk(&server.data_dir(), &server.data_dir(), &mut found);
    found
}

/// Files that are not the same, or not in both.
pub(super) fn changed(
    before: &BTreeMap<String, Vec<u8>>,
    after: &BTreeMap<String, Vec<u8>>,
) -> BTreeSet<String> {
    let names = before.keys().chain(after.keys());
    names.filter(|name| before.get(*name) != after.get(*name)).cloned().collect()
}

/// What changes with every start and stop of a server, read or not.
pub(super) fn by_the_server(name: &str) -> bool {
    // The state of the server and its time.
    name == "global/pg_control"
        // Statistics are written when it stops.
        || name.starts_with("pg_stat/")
        // The first session makes a cache of descriptions of the catalogs.
        || name.ends_with("pg_internal.init")
}
