//! What a server says of itself.

use super::connect::{ForClient, Target};
use super::session::{ReadError, Session};

/// `RELSEG_SIZE` where nobody chose another: 1 GB at 8 kB.
const SEGMENT_BLOCKS: u32 = 131_072;

/// What a server says of itself, once for a run.
#[derive(Clone, Debug, Default)]
pub struct ServerFacts {
    /// `server_version_num`.
    pub version: u32,
    pub version_text: String,
    /// The database's encoding; COPY is asked for the same.
    pub encoding: String,
    pub block_size: u32,
    /// Blocks in one file of a relation; at least 1.
    pub segment_blocks: u32,
    pub data_checksums: bool,
    pub in_recovery: bool,
    pub database: String,
    pub database_oid: u32,
    pub superuser: bool,
    pub system_identifier: Option<String>,
    /// Whether it starts again by itself after a crash.
    pub restart_after_crash: bool,
    /// Settings that hide damage and could not be turned off.
    pub hiding: Vec<String>,
}

/// What hides damage and would be on in a new session, turned off in the way of
/// a connection's `options`.
const AGAINST_HIDING: &str = "SELECT pg_catalog.string_agg('-c ' || name || '=off', ' ') \
    FROM pg_catalog.pg_settings \
    WHERE name IN ('zero_damaged_pages', 'ignore_checksum_failure') AND reset_val = 'on'";

impl Session {
    /// What a client program is given to see what this session sees, on the same
    /// server.
    pub async fn for_client(&self, target: &Target) -> ForClient {
        // Others than superusers may not, and could not connect then.
        let settings = match self.server().superuser {
            true => self.wish(AGAINST_HIDING).await.ok().flatten().unwrap_or_default(),
            false => String::new(),
        };
        target.for_client(&self.connected, &settings).await
    }

    /// Asks for all of it. What may not be known is left out.
    pub(super) async fn facts(
        &self,
        version: u32,
        hiding: Vec<String>,
    ) -> Result<ServerFacts, ReadError> {
        let show = async |name: &str| {
            Ok::<_, ReadError>(self.value(&format!("SHOW {name}")).await?.unwrap_or_default())
        };
        let database_oid =
            "SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database()";
        let segment = "SELECT pg_catalog.pg_size_bytes(pg_catalog.current_setting('segment_size')) \
                       / pg_catalog.current_setting('block_size')::bigint";
        let control = "SELECT system_identifier FROM pg_catalog.pg_control_system()";
        Ok(ServerFacts {
            version,
            version_text: show("server_version").await?,
            encoding: show("server_encoding").await?,
            block_size: show("block_size").await?.parse().unwrap_or(8192),
            segment_blocks: self
                .wish(segment)
                .await?
                .and_then(|n| n.parse().ok())
                .filter(|n| *n > 0)
                .unwrap_or(SEGMENT_BLOCKS),
            data_checksums: show("data_checksums").await? == "on",
            in_recovery: self.value("SELECT pg_is_in_recovery()").await?.as_deref() == Some("t"),
            database: self.value("SELECT current_catalog").await?.unwrap_or_default(),
            database_oid: self.wish(database_oid).await?.and_then(|o| o.parse().ok()).unwrap_or(0),
            superuser: show("is_superuser").await? == "on",
            restart_after_crash: show("restart_after_crash").await? == "on",
            system_identifier: self.wish(control).await?,
            hiding,
        })
    }
}
