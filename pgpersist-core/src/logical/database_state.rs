//! What belongs to a database but stands in no dump of it: encoding, locale, owner, grants, settings, comment.
//!
//! `pg_dump` writes these only with `-C`, `pg_dumpall --globals-only` not at all. Columns differ by major version: see
//! *pg_database* in the documentation of 14 to 18, and `dumpDatabase` in `pg_dump.c`.

use serde::{Deserialize, Serialize};
use tokio_postgres::SimpleQueryMessage;

use crate::error::{Error, Result};
use crate::pg::quote;
use crate::pg::version::ServerVersion;
use crate::server::session::Session;

/// The state of one database, as far as it can be created again from it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DatabaseState {
    /// As the server spells it: `UTF8`.
    pub encoding: String,
    /// Who sorts: `libc`, `icu` or `builtin`.
    pub locale_provider: String,
    /// `LC_COLLATE`.
    pub collate: String,
    /// `LC_CTYPE`.
    pub ctype: String,
    /// The locale of the providers `icu` and `builtin`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub locale: Option<String>,
    /// Additional rules of ICU.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub icu_rules: Option<String>,
    /// The version of the collation, as its provider told when the database was created.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub collation_version: Option<String>,
    /// The owner.
    pub owner: String,
    /// How many may connect; -1 is no limit.
    pub connection_limit: i32,
    /// What is granted on the database; nothing means PostgreSQL's defaults.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grants: Option<Vec<Grant>>,
    /// Settings of the database, and of roles in it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub settings: Vec<Setting>,
    /// The comment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
}

/// A privilege on a database.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    /// To whom; nothing means everybody.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
    /// `CONNECT`, `CREATE` or `TEMPORARY`.
    pub privilege: String,
    /// Whether the role may grant it further.
    pub grantable: bool,
}

/// A setting that sessions in the database begin with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Setting {
    /// Whose sessions; nothing means everybody's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
    /// The setting.
    pub name: String,
    /// Its value as the catalog holds it.
    pub value: String,
}

impl DatabaseState {
    /// Reads the state of the database that the session is in.
    ///
    /// # Errors
    /// [`Error::Sql`].
    pub async fn read(session: &Session, version: ServerVersion) -> Result<Self> {
        let provider = if version.major >= 15 { "datlocprovider::text" } else { "'c'" };
        let locale = match version.major {
            ..=14 => "NULL",
            15..=16 => "daticulocale",
            _ => "datlocale",
        };
        let rules = if version.major >= 16 { "daticurules" } else { "NULL" };
        let collation_version = if version.major >= 15 { "datcollversion" } else { "NULL" };
        let query = format!(
            "SELECT pg_catalog.pg_encoding_to_char(encoding), {provider}, datcollate, datctype, {locale}, {rules}, {collation_version}, \
             pg_catalog.pg_get_userbyid(datdba), datconnlimit, datacl IS NULL, pg_catalog.shobj_description(oid, 'pg_database') \
             FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database()"
        );
        let rows = texts(session, "read the state of the database", &query).await?;
        let row = rows.first().ok_or_else(|| Error::damaged("the database is not in pg_database", ""))?;
        let text = |column: usize| row.get(column).cloned().flatten();
        let sure = |column: usize| text(column).unwrap_or_default();
        let grants = if sure(9) == "t" { None } else { Some(grants(session).await?) };
        Ok(Self {
            encoding: sure(0),
            locale_provider: match sure(1).as_str() {
                "i" => "icu".to_owned(),
                "b" => "builtin".to_owned(),
                _ => "libc".to_owned(),
            },
            collate: sure(2),
            ctype: sure(3),
            locale: text(4),
            icu_rules: text(5),
            collation_version: text(6),
            owner: sure(7),
            connection_limit: sure(8).parse().unwrap_or(-1),
            grants,
            settings: settings(session).await?,
            comment: text(10),
        })
    }

    /// The roles that must exist before the state can be applied.
    pub fn roles(&self) -> Vec<&str> {
        let grantees = self.grants.iter().flatten().filter_map(|grant| grant.role.as_deref());
        let setters = self.settings.iter().filter_map(|setting| setting.role.as_deref());
        let mut roles: Vec<_> = [self.owner.as_str()].into_iter().chain(grantees).chain(setters).collect();
        roles.sort_unstable();
        roles.dedup();
        roles
    }

    /// The options of `CREATE DATABASE … TEMPLATE template0` that make a database of the same encoding and locale.
    pub fn creation_options(&self, version: ServerVersion) -> String {
        let mut options = format!(
            "ENCODING {} LC_COLLATE {} LC_CTYPE {}",
            quote::literal(&self.encoding),
            quote::literal(&self.collate),
            quote::literal(&self.ctype)
        );
        // 14 knows libc only, and does not know the word.
        if version.major >= 15 {
            // It may come from a file that anybody wrote, and is no literal here: only the words that exist.
            let provider = ["icu", "builtin"].into_iter().find(|known| *known == self.locale_provider).unwrap_or("libc");
            options += &format!(" LOCALE_PROVIDER {provider}");
        }
        if let Some(locale) = &self.locale {
            let word = if self.locale_provider == "builtin" { "BUILTIN_LOCALE" } else { "ICU_LOCALE" };
            options += &format!(" {word} {}", quote::literal(locale));
        }
        if let Some(rules) = &self.icu_rules {
            options += &format!(" ICU_RULES {}", quote::literal(rules));
        }
        options
    }

    /// The statements that give `database` its owner, comment, settings, limit and grants.
    pub fn finishing_statements(&self, database: &str) -> Vec<String> {
        let database = quote::identifier(database);
        let owner = quote::identifier(&self.owner);
        let mut statements = vec![format!("ALTER DATABASE {database} OWNER TO {owner}")];
        if let Some(comment) = &self.comment {
            statements.push(format!("COMMENT ON DATABASE {database} IS {}", quote::literal(comment)));
        }
        if self.connection_limit != -1 {
            statements.push(format!("ALTER DATABASE {database} CONNECTION LIMIT {}", self.connection_limit));
        }
        for setting in &self.settings {
            let role = setting.role.as_ref().map(|role| format!("ROLE {} IN ", quote::identifier(role))).unwrap_or_default();
            let (name, value) = (quote::identifier(&setting.name), setting.sql_value());
            // The name may have parts, such as `auto_explain.log_min_duration`, each an identifier of its own.
            let name = if setting.name.contains('.') {
                setting.name.split('.').map(quote::identifier).collect::<Vec<_>>().join(".")
            } else {
                name
            };
            statements.push(format!("ALTER {role}DATABASE {database} SET {name} TO {value}"));
        }
        if let Some(grants) = &self.grants {
            statements.push(format!("REVOKE ALL ON DATABASE {database} FROM PUBLIC"));
            statements.push(format!("REVOKE ALL ON DATABASE {database} FROM {owner}"));
            for grant in grants {
                let Some(privilege) = ["CONNECT", "CREATE", "TEMPORARY"].into_iter().find(|known| *known == grant.privilege) else {
                    continue;
                };
                let role = grant.role.as_deref().map_or("PUBLIC".to_owned(), quote::identifier);
                let option = if grant.grantable { " WITH GRANT OPTION" } else { "" };
                statements.push(format!("GRANT {privilege} ON DATABASE {database} TO {role}{option}"));
            }
        }
        statements
    }
}

impl Setting {
    /// Lists of identifiers are stored quoted already, and would be quoted a second time as one literal (`GUC_LIST_QUOTE`
    /// in `dumputils.c`): each entry becomes a literal of its own.
    fn sql_value(&self) -> String {
        let is_list = [
            "local_preload_libraries",
            "search_path",
            "session_preload_libraries",
            "shared_preload_libraries",
            "temp_tablespaces",
            "unix_socket_directories",
        ]
        .contains(&self.name.to_ascii_lowercase().as_str());
        if !is_list {
            return quote::literal(&self.value);
        }
        let entries = list_entries(&self.value);
        if entries.is_empty() { "''".to_owned() } else { entries.iter().map(|entry| quote::literal(entry)).collect::<Vec<_>>().join(", ") }
    }
}

/// Splits `"$user", public` into its names.
fn list_entries(list: &str) -> Vec<String> {
    let mut entries = Vec::new();
    let mut entry = String::new();
    let mut quoted = false;
    let mut characters = list.chars().peekable();
    let mut seen = false;
    while let Some(character) = characters.next() {
        match character {
            '"' if quoted && characters.peek() == Some(&'"') => {
                characters.next();
                entry.push('"');
            }
            '"' => {
                quoted = !quoted;
                seen = true;
            }
            ',' if !quoted => {
                entries.push(std::mem::take(&mut entry));
                seen = false;
            }
            ' ' if !quoted => {}
            other => entry.push(other),
        }
    }
    if seen || !entry.is_empty() {
        entries.push(entry);
    }
    entries
}

async fn grants(session: &Session) -> Result<Vec<Grant>> {
    let rows = texts(
        session,
        "read the grants of the database",
        "SELECT r.rolname, a.privilege_type, a.is_grantable FROM pg_catalog.pg_database d \
         CROSS JOIN LATERAL pg_catalog.aclexplode(d.datacl) a LEFT JOIN pg_catalog.pg_roles r ON r.oid = a.grantee \
         WHERE d.datname = pg_catalog.current_database() AND (a.grantee = 0 OR r.oid IS NOT NULL) ORDER BY 1, 2",
    )
    .await?;
    Ok(rows
        .into_iter()
        .filter_map(|row| match <[Option<String>; 3]>::try_from(row) {
            Ok([role, Some(privilege), Some(grantable)]) => Some(Grant { role, privilege, grantable: grantable == "t" }),
            _ => None,
        })
        .collect())
}

async fn settings(session: &Session) -> Result<Vec<Setting>> {
    let rows = texts(
        session,
        "read the settings of the database",
        "SELECT r.rolname, s.setting FROM pg_catalog.pg_db_role_setting x \
         JOIN pg_catalog.pg_database d ON d.oid = x.setdatabase LEFT JOIN pg_catalog.pg_roles r ON r.oid = x.setrole \
         CROSS JOIN LATERAL pg_catalog.unnest(x.setconfig) WITH ORDINALITY s(setting, place) \
         WHERE d.datname = pg_catalog.current_database() ORDER BY r.rolname NULLS FIRST, s.place",
    )
    .await?;
    Ok(rows
        .into_iter()
        .filter_map(|row| match <[Option<String>; 2]>::try_from(row) {
            Ok([role, Some(setting)]) => {
                setting.split_once('=').map(|(name, value)| Setting { role, name: name.to_owned(), value: value.to_owned() })
            }
            _ => None,
        })
        .collect())
}

/// All rows of a query as text: for columns whose types differ by major version.
pub(super) async fn texts(session: &Session, action: &str, query: &str) -> Result<Vec<Vec<Option<String>>>> {
    let messages = session.client().simple_query(query).await.map_err(|e| Error::sql(action, e))?;
    Ok(messages
        .iter()
        .filter_map(|message| match message {
            SimpleQueryMessage::Row(row) => Some((0..row.len()).map(|column| row.get(column).map(str::to_owned)).collect()),
            _ => None,
        })
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_names_are_not_quoted_twice() {
        let value = |name: &str, value: &str| Setting { role: None, name: name.into(), value: value.into() }.sql_value();
        assert_eq!(value("search_path", "\"$user\", public, \"a, \"\"b\""), "'$user', 'public', 'a, \"b'");
        assert_eq!(value("search_path", "\"\""), "''");
        assert_eq!(value("work_mem", "64MB"), "'64MB'");
        assert_eq!(value("application_name", "it's, all"), "'it''s, all'");
    }
}
