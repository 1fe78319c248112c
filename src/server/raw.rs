//! What is asked of the server about tuples that were decoded from the bytes of a
//! page.

use super::sql::literal;

/// Values of columns in tuples that are older than the column, by attribute number
/// (PostgreSQL 11 and later). Each is in an array of one, of its own type.
pub fn missing_values(relation: u32, encoding: &str) -> String {
    let encoding = literal(encoding);
    format!(
        "COPY (SELECT attnum, (attmissingval::pg_catalog.text::pg_catalog.text[])[1] \
         FROM pg_catalog.pg_attribute WHERE attrelid = {relation} AND atthasmissing) \
         TO STDOUT (ENCODING {encoding})"
    )
}

/// OID, type and label of the values of some types that may be enums.
pub fn enum_labels(types: impl IntoIterator<Item = u32>, encoding: &str) -> String {
    let encoding = literal(encoding);
    format!(
        "COPY (SELECT oid, enumtypid, enumlabel FROM pg_catalog.pg_enum \
         WHERE enumtypid = ANY ('{{{}}}')) TO STDOUT (ENCODING {encoding})",
        list(types)
    )
}

/// What became of some transactions.
pub fn fates_of(xids: impl IntoIterator<Item = u64>) -> String {
    format!(
        "SELECT x, pg_catalog.txid_status(x) FROM pg_catalog.unnest('{{{}}}'::bigint[]) x",
        list(xids)
    )
}

/// Which transaction of a MultiXactId has updated or deleted; no row, if none has.
pub fn updater_of(multi: u32) -> String {
    format!(
        "SELECT xid FROM pg_catalog.pg_get_multixact_members('{multi}') \
         WHERE mode IN ('nokeyupd', 'upd')"
    )
}

fn list<N: ToString>(numbers: impl IntoIterator<Item = N>) -> String {
    let numbers: Vec<String> = numbers.into_iter().map(|n| n.to_string()).collect();
    numbers.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_listed() {
        assert!(fates_of([3, 700]).ends_with("unnest('{3,700}'::bigint[]) x"));
        assert!(enum_labels([16_400], "UTF8").contains("ANY ('{16400}')"));
        assert!(missing_values(7, "UTF8").contains("attrelid = 7 AND"));
    }
}
