//! The extension amcheck, where it is installed: which of its functions there
//! are, whether this role may call them, and the statements that do.
//!
//! They differ by the version of the extension, which may be older than the
//! server's: so it is the functions that are looked at.

use super::catalog::Installed;
use super::session::{ReadError, Session};
use super::sql::{ident, literal};
use std::collections::BTreeMap;

pub const EXTENSION: &str = "amcheck";

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Function {
    /// `verify_heapam`, since 1.3 (PostgreSQL 14).
    Heap,
    /// `bt_index_check`, which keeps nobody from writing.
    BTree,
    /// `bt_index_parent_check`, which does.
    BTreeParent,
    /// `gin_index_check`, since 1.5 (PostgreSQL 18).
    Gin,
}

/// The types of a function's arguments, as `proargtypes` has them and as SQL does.
type Signature = (&'static str, &'static str);

/// Of one function the signature that can do more comes first.
const KNOWN: &[(Function, &str, &[Signature])] = &[
    (
        Function::Heap,
        "verify_heapam",
        &[("2205 16 16 25 20 20", "regclass, boolean, boolean, text, bigint, bigint")],
    ),
    (
        Function::BTree,
        "bt_index_check",
        &[
            ("2205 16 16", "regclass, boolean, boolean"),
            ("2205 16", "regclass, boolean"),
            ("2205", "regclass"),
        ],
    ),
    (
        Function::BTreeParent,
        "bt_index_parent_check",
        &[
            ("2205 16 16 16", "regclass, boolean, boolean, boolean"),
            ("2205 16 16", "regclass, boolean, boolean"),
            ("2205 16", "regclass, boolean"),
            ("2205", "regclass"),
        ],
    ),
    (Function::Gin, "gin_index_check", &[("2205", "regclass")]),
];

/// One function as it is there.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Callable {
    name: &'static str,
    arguments: &'static str,
    allowed: bool,
}

impl Callable {
    fn arguments(&self) -> usize {
        self.arguments.split(", ").count()
    }
}

/// amcheck in the database of a session, for its role.
#[derive(Clone, Debug)]
pub struct Amcheck {
    pub version: String,
    schema: String,
    schema_allowed: bool,
    functions: BTreeMap<Function, Callable>,
}

/// How much is asked of a b-tree, as far as the function can.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Deep {
    /// Whether each row of the table is in it.
    pub heapallindexed: bool,
    /// Whether each entry is found from the root: writers are locked out.
    pub rootdescend: bool,
    /// Whether no two visible rows have the same key.
    pub checkunique: bool,
}

/// One thing that `verify_heapam` has found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    pub block: u32,
    /// The line pointer.
    pub offset: Option<u32>,
    /// `attnum` of the column, as in `pg_attribute`.
    pub attribute: Option<u32>,
    pub message: String,
}

impl Finding {
    pub fn place(&self) -> (u32, Option<u32>, Option<u32>) {
        (self.block, self.offset, self.attribute)
    }
}

impl Amcheck {
    /// Asks which of the functions that are there may be called.
    pub async fn of(session: &Session, installed: &Installed) -> Result<Self, ReadError> {
        let Installed { version, schema_oid, schema, functions } = installed;
        let sql = format!(
            "SELECT pg_catalog.has_schema_privilege({schema_oid}::pg_catalog.oid, 'USAGE')"
        );
        let schema_allowed = is_true(session.value(&sql).await?.as_ref());
        let mut callable = BTreeMap::new();
        for (function, name, signatures) in KNOWN {
            let there = signatures.iter().find_map(|(types, arguments)| {
                Some((functions.get(&((*name).to_owned(), (*types).to_owned()))?, arguments))
            });
            let Some((oid, arguments)) = there else { continue };
            let sql = format!(
                "SELECT pg_catalog.has_function_privilege({oid}::pg_catalog.oid, 'EXECUTE')"
            );
            let allowed = is_true(session.value(&sql).await?.as_ref()) && schema_allowed;
            callable.insert(*function, Callable { name, arguments, allowed });
        }
        Ok(Self {
            version: version.clone(),
            schema: schema.clone(),
            schema_allowed,
            functions: callable,
        })
    }

    pub fn has(&self, function: Function) -> bool {
        self.functions.contains_key(&function)
    }

    pub fn may(&self, function: Function) -> bool {
        self.functions.get(&function).is_some_and(|f| f.allowed)
    }

    pub fn name(&self, function: Function) -> &'static str {
        let known = KNOWN.iter().find(|(f, _, _)| *f == function);
        known.map_or("", |(_, name, _)| name)
    }

    /// Whether the function, if it is there, can do what is asked.
    pub fn can(&self, function: Function) -> Deep {
        let arguments = self.functions.get(&function).map_or(0, Callable::arguments);
        Deep {
            heapallindexed: arguments >= 2,
            rootdescend: function == Function::BTreeParent && arguments >= 3,
            checkunique: match function {
                Function::BTree => arguments >= 3,
                Function::BTreeParent => arguments >= 4,
                _ => false,
            },
        }
    }

    /// What a superuser would type for a role that may not call these functions.
    /// None: it may.
    pub fn grants(&self, wanted: &[Function], role: &str) -> Option<String> {
        let role = ident(role);
        let schema = ident(&self.schema);
        let mut grants = Vec::new();
        if !self.schema_allowed {
            grants.push(format!("GRANT USAGE ON SCHEMA {schema} TO {role};"));
        }
        let refused = wanted.iter().filter_map(|f| self.functions.get(f)).filter(|f| !f.allowed);
        let refused: Vec<String> =
            refused.map(|f| format!("{schema}.{}({})", f.name, f.arguments)).collect();
        if !refused.is_empty() {
            grants.push(format!("GRANT EXECUTE ON FUNCTION {} TO {role};", refused.join(", ")));
        }
        (!grants.is_empty()).then(|| grants.join(" "))
    }

    fn call(&self, function: Function, oid: u32, arguments: &[String]) -> String {
        let oid = literal(&oid.to_string());
        let more: String = arguments.iter().map(|a| format!(", {a}")).collect();
        format!("{}.{}({oid}::pg_catalog.regclass{more})", ident(&self.schema), self.name(function))
    }

    /// Blocks of a heap, or, where there are none, whatever it has; at most so
    /// many findings, each with the number of all.
    pub fn heap(&self, oid: u32, blocks: (u32, u32), toast: bool, findings_max: usize) -> String {
        let (first, end) = blocks;
        let bound = |block: Option<u32>| match block {
            Some(block) => format!("{block}::pg_catalog.int8"),
            None => "NULL::pg_catalog.int8".to_owned(),
        };
        let last = end.checked_sub(1).filter(|last| *last >= first);
        let arguments = [
            "false".to_owned(),
            toast.to_string(),
            "'none'::pg_catalog.text".to_owned(),
            bound(last.map(|_| first)),
            bound(last),
        ];
        format!(
            "SELECT blkno, offnum, attnum, msg, pg_catalog.count(*) OVER () FROM {} \
             LIMIT {findings_max}",
            self.call(Function::Heap, oid, &arguments)
        )
    }

    /// One b-tree. What the function cannot do is not asked of it.
    pub fn b_tree(&self, oid: u32, deep: Deep) -> String {
        let function = if deep.rootdescend { Function::BTreeParent } else { Function::BTree };
        let can = self.can(function);
        let mut arguments = Vec::new();
        if can.heapallindexed {
            arguments.push(deep.heapallindexed.to_string());
        }
        if can.rootdescend {
            arguments.push(deep.rootdescend.to_string());
        }
        if can.checkunique {
            arguments.push(deep.checkunique.to_string());
        }
        format!("SELECT {}", self.call(function, oid, &arguments))
    }

    pub fn gin(&self, oid: u32) -> String {
        format!("SELECT {}", self.call(Function::Gin, oid, &[]))
    }
}

fn is_true(value: Option<&String>) -> bool {
    value.is_some_and(|v| v == "t")
}

/// What `verify_heapam` gave, in the order of blocks, and how many findings there
/// are in all.
pub fn findings(rows: &[Vec<Option<String>>]) -> (Vec<Finding>, u64) {
    let number = |row: &[Option<String>], i: usize| row.get(i)?.as_ref()?.parse::<u32>().ok();
    let mut found: Vec<Finding> = rows
        .iter()
        .map(|row| Finding {
            block: number(row, 0).unwrap_or(0),
            offset: number(row, 1),
            // It counts from 0.
            attribute: number(row, 2).map(|n| n.saturating_add(1)),
            message: row.get(3).cloned().flatten().unwrap_or_default(),
        })
        .collect();
    found.sort_by_key(Finding::place);
    let total = rows.first().and_then(|row| row.get(4)?.as_ref()?.parse().ok());
    (found, total.unwrap_or(rows.len() as u64))
}

/// Has a row if the relation is there.
pub fn is_there(oid: u32) -> String {
    format!("SELECT 1 FROM pg_catalog.pg_class WHERE oid = {oid}")
}

/// The length of a relation's main fork in bytes, the path of its file, and those
/// of other relations.
pub fn extent(oid: u32, others: &[u32]) -> String {
    let all = [oid].into_iter().chain(others.iter().copied());
    let paths: Vec<String> =
        all.map(|oid| format!("pg_catalog.pg_relation_filepath({oid})")).collect();
    format!("SELECT pg_catalog.pg_relation_size({oid}, 'main'), {}", paths.join(", "))
}

/// The name of a column.
pub fn column(oid: u32, attribute: u32) -> String {
    format!(
        "SELECT attname FROM pg_catalog.pg_attribute WHERE attrelid = {oid} AND attnum = {attribute}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn amcheck(functions: &[(Function, &'static str)]) -> Amcheck {
        let callable = |(function, arguments): &(Function, &'static str)| {
            let known = KNOWN.iter().find(|(f, _, _)| f == function);
            let name = known.map_or("", |(_, name, _)| name);
            (*function, Callable { name, arguments, allowed: false })
        };
        Amcheck {
            version: String::new(),
            schema: "a\"b".to_owned(),
            schema_allowed: true,
            functions: functions.iter().map(callable).collect(),
        }
    }

    #[test]
    fn statements_have_the_arguments_that_the_installed_version_knows() {
        let all = Deep { heapallindexed: true, rootdescend: false, checkunique: true };
        let of = |arguments| amcheck(&[(Function::BTree, arguments)]).b_tree(7, all);
        let call = |rest: &str| {
            format!("SELECT \"a\"\"b\".bt_index_check('7'::pg_catalog.regclass{rest})")
        };
        assert_eq!(of("regclass"), call(""));
        assert_eq!(of("regclass, boolean"), call(", true"));
        assert_eq!(of("regclass, boolean, boolean"), call(", true, true"));
        let deep = Deep { rootdescend: true, ..all };
        let parent = amcheck(&[(Function::BTreeParent, "regclass, boolean, boolean")]);
        assert_eq!(
            parent.b_tree(7, deep),
            "SELECT \"a\"\"b\".bt_index_parent_check('7'::pg_catalog.regclass, true, true)"
        );
        let heap = amcheck(&[]).heap(7, (10, 20), true, 5);
        assert!(
            heap.contains("true, 'none'::pg_catalog.text, 10::pg_catalog.int8, 19::"),
            "{heap}"
        );
        let empty = amcheck(&[]).heap(7, (0, 0), true, 5);
        assert_eq!(empty.matches("NULL::pg_catalog.int8").count(), 2, "{empty}");
    }

    #[test]
    fn what_a_superuser_would_grant_names_the_functions_that_are_there() {
        let refused = amcheck(&[(Function::BTree, "regclass, boolean")]);
        assert_eq!(
            refused.grants(&[Function::Heap, Function::BTree], "night watch").unwrap_or_default(),
            "GRANT EXECUTE ON FUNCTION \"a\"\"b\".bt_index_check(regclass, boolean) TO \"night watch\";"
        );
        assert_eq!(refused.grants(&[Function::Heap], "r"), None);
    }

    #[test]
    fn findings_are_in_the_order_of_places_and_nothing_makes_them_panic() {
        let row = |fields: [&str; 5]| {
            fields.map(|f| Some(f.to_owned()).filter(|f| !f.is_empty())).to_vec()
        };
        let rows = [row(["9", "", "", "b", "7"]), row(["3", "2", "0", "a", "7"]), vec![]];
        let (found, total) = findings(&rows);
        assert_eq!(total, 7);
        assert_eq!(found[1].place(), (3, Some(2), Some(1)));
        assert_eq!(findings(&[]), (Vec::new(), 0));
    }
}
