//! Damaged system catalogs: of every relation whose own definition is intact all
//! rows come, byte for byte; all others are named; and the run ends with an
//! error only where no session can be had at all.

mod base;
mod indexes;
mod libraries;
mod statistics;
mod tuples;

use crate::kit::{Harm, Version};
use base::{Base, Touched, blocks_of, catalogs};

/// Every catalog, harmed in this way in its first, middle and last block.
fn matrix(versions: &[Version], harm: Harm) {
    std::thread::scope(|scope| {
        for version in versions {
            scope.spawn(move || {
                let runtime = tokio::runtime::Runtime::new().expect("a runtime");
                runtime.block_on(async {
                    let base = Base::new(version).await;
                    for catalog in catalogs() {
                        for block in blocks_of(base.places(catalog)) {
                            let touched = base.touched(catalog, block);
                            base.check(catalog, block, harm, touched).await;
                        }
                    }
                });
            });
        }
    });
}

#[test]
fn a_catalog_with_a_bad_page_costs_what_the_page_describes() {
    matrix(&Version::one_or_two(), Harm::BadPageHeader);
}

#[test]
fn what_a_page_of_zeros_in_a_catalog_described_is_missed() {
    matrix(&Version::one_or_two(), Harm::ZeroBlock);
}

/// Where the user's relations are.
#[test]
fn the_last_block_of_each_catalog_costs_what_it_describes_on_every_version() {
    for version in Version::few(14, 18) {
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        runtime.block_on(async {
            let base = Base::new(&version).await;
            for catalog in catalogs() {
                let block = base.places(catalog).blocks - 1;
                for harm in [Harm::BadPageHeader, Harm::ZeroBlock] {
                    base.check(catalog, block, harm, base.touched(catalog, block)).await;
                }
            }
        });
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_healthy_database_has_no_damaged_catalogs() {
    for version in Version::some(14, 18) {
        let base = Base::new(&version).await;
        base.server.start_again();
        let dumped = base.dump(&base.server);
        assert_eq!(dumped.manifest.exit_code, 0, "{}", dumped.said);
        assert_eq!(dumped.manifest.catalogs, [], "{}", dumped.said);
        assert_eq!(dumped.manifest.warnings, Vec::<String>::new());
        assert!(!dumped.manifest.server.system_indexes_ignored);
        base.check_dump(&dumped, &Touched::default(), &version.major.to_string()).await;
    }
}
