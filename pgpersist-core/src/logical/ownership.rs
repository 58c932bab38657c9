//! Which statements of a dump say to whom things belong.
//!
//! A dump is loaded by a role that may do nothing outside its database; giving objects away and granting on behalf of
//! others needs a superuser. Those statements are taken out of the script and run at the end by one. What is taken must therefore
//! run no code of the dump: only the forms below, whole, and nothing that reaches beyond the database. Of a dump that nothing
//! proves to be our own, nothing is taken either that speaks of PostgreSQL's own objects: a grant on `pg_catalog.lo_export`
//! gives everybody the files of the machine.

use crate::logical::psql_script::{begins_with, identifier};

/// What a statement says about ownership.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Ownership {
    /// Nothing: the loading role runs it.
    None,
    /// `ALTER … OWNER TO` this role, and nothing else.
    Owner(String),
    /// `GRANT` or `REVOKE` on objects of the database, default privileges, or on whose behalf.
    Privileges,
}

/// What a superuser may be asked to give away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reach {
    /// What lies in schemas of the dump's own: what it made itself.
    OwnSchemas,
    /// PostgreSQL's own functions and tables as well, as a dump has them of a cluster where somebody changed their grants.
    Catalog,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    /// A plain word, in upper case, with its spelling folded as the server folds it.
    Word(String, String),
    Name(String),
    Symbol(u8),
}

impl Token {
    fn is(&self, word: &str) -> bool {
        matches!(self, Token::Word(upper, _) if upper == word)
    }

    fn name(&self) -> Option<&str> {
        match self {
            Token::Word(_, name) | Token::Name(name) => Some(name),
            Token::Symbol(_) => None,
        }
    }
}

/// Kinds of objects that stand in one database and can be given away; longer ones first.
const KINDS: [&[&str]; 26] = [
    &["MATERIALIZED", "VIEW"],
    &["FOREIGN", "DATA", "WRAPPER"],
    &["FOREIGN", "TABLE"],
    &["TEXT", "SEARCH", "DICTIONARY"],
    &["TEXT", "SEARCH", "CONFIGURATION"],
    &["OPERATOR", "CLASS"],
    &["OPERATOR", "FAMILY"],
    &["LARGE", "OBJECT"],
    &["EVENT", "TRIGGER"],
    &["PROCEDURAL", "LANGUAGE"],
    &["LANGUAGE"],
    &["TABLE"],
    &["SEQUENCE"],
    &["VIEW"],
    &["INDEX"],
    &["FUNCTION"],
    &["PROCEDURE"],
    &["AGGREGATE"],
    &["TYPE"],
    &["DOMAIN"],
    &["SCHEMA"],
    &["OPERATOR"],
    &["COLLATION"],
    &["CONVERSION"],
    &["STATISTICS"],
    &["SERVER"],
];

/// Reads one statement.
pub(super) fn of(statement: &[u8], reach: Reach) -> Ownership {
    if !["ALTER", "GRANT", "REVOKE", "SET SESSION AUTHORIZATION", "RESET SESSION AUTHORIZATION"]
        .iter()
        .any(|words| begins_with(statement, words))
    {
        return Ownership::None;
    }
    let Some(tokens) = tokens(statement) else { return Ownership::None };
    let Some((Token::Symbol(b';'), tokens)) = tokens.split_last() else { return Ownership::None };
    let [first, rest @ ..] = tokens else { return Ownership::None };
    let is_known = if first.is("ALTER") {
        if let Some((kind, object, owner)) = new_owner(rest) {
            let is_taken = reach == Reach::Catalog || is_made_by_the_dump(kind, object);
            return if is_taken { Ownership::Owner(owner.to_owned()) } else { Ownership::None };
        }
        matches!(rest, [default, privileges, ..] if default.is("DEFAULT") && privileges.is("PRIVILEGES"))
    } else if first.is("GRANT") || first.is("REVOKE") {
        is_grant_in_database(rest, reach)
    } else {
        matches!(tokens, [_, session, authorization] if session.is("SESSION") && authorization.is("AUTHORIZATION"))
            || matches!(tokens, [set, session, authorization, role]
                if set.is("SET") && session.is("SESSION") && authorization.is("AUTHORIZATION") && role.name().is_some())
    };
    if is_known { Ownership::Privileges } else { Ownership::None }
}

/// `TABLE public.t OWNER TO role`: a kind, a name with what tells it from others of its name, and nothing else. A second
/// action of the same `ALTER TABLE` could run code. Returns the kind, the object and the role.
fn new_owner(tokens: &[Token]) -> Option<(&'static [&'static str], &[Token], &str)> {
    let [name @ .., owner, to, role] = tokens else { return None };
    if !owner.is("OWNER") || !to.is("TO") {
        return None;
    }
    let kind = *KINDS.iter().find(|kind| name.len() > kind.len() && kind.iter().zip(name).all(|(word, token)| token.is(word)))?;
    let mut depth = 0_u32;
    for (place, token) in name[kind.len()..].iter().enumerate() {
        match token {
            Token::Symbol(b'(') => depth += 1,
            Token::Symbol(b')') => depth = depth.checked_sub(1)?,
            Token::Symbol(b',') if depth == 0 => return None,
            Token::Symbol(_) => {}
            // Only names joined by dots, or `USING method` of operator classes, stand outside of argument lists.
            token if depth == 0 && place > 0 => {
                let before = &name[kind.len() + place - 1];
                let joined = *before == Token::Symbol(b'.') || token.is("USING") || before.is("USING");
                if !joined {
                    return None;
                }
            }
            _ => {}
        }
    }
    let role = role.name().filter(|_| depth == 0)?;
    Some((kind, &name[kind.len()..], role))
}

/// Databases, tablespaces and settings are shared by all databases, and a membership in a role has no `ON`.
fn is_grant_in_database(tokens: &[Token], reach: Reach) -> bool {
    let ends = |token: &Token| token.is("TO") || token.is("FROM");
    let Some(on) = at_depth_zero(tokens, |token| token.is("ON") || ends(token)).filter(|place| tokens[*place].is("ON")) else {
        return false;
    };
    let rest = &tokens[on + 1..];
    let Some(objects) = at_depth_zero(rest, ends).map(|end| &rest[..end]) else { return false };
    let is_shared = objects.first().is_none_or(|kind| ["DATABASE", "TABLESPACE", "PARAMETER"].iter().any(|shared| kind.is(shared)));
    !is_shared && (reach == Reach::Catalog || grants_on_the_dumps_own(objects))
}

/// The first token outside of parentheses that is wanted.
fn at_depth_zero(tokens: &[Token], wanted: impl Fn(&Token) -> bool) -> Option<usize> {
    let mut depth = 0_u32;
    for (place, token) in tokens.iter().enumerate() {
        match token {
            Token::Symbol(b'(') => depth += 1,
            Token::Symbol(b')') => depth = depth.saturating_sub(1),
            token if depth == 0 && wanted(token) => return Some(place),
            _ => {}
        }
    }
    None
}

/// `TABLE public.t`, `FUNCTION public.f(integer)`, `SCHEMA s`: everything that is named lies in schemas that are not
/// PostgreSQL's. A name without its schema could be any, since `pg_catalog` is always searched.
fn grants_on_the_dumps_own(objects: &[Token]) -> bool {
    const WITHOUT_SCHEMA: [&[&str]; 4] = [&["LARGE", "OBJECT"], &["LANGUAGE"], &["FOREIGN", "DATA", "WRAPPER"], &["FOREIGN", "SERVER"]];
    const KINDS: [&str; 7] = ["TABLE", "SEQUENCE", "FUNCTION", "PROCEDURE", "ROUTINE", "TYPE", "DOMAIN"];
    if WITHOUT_SCHEMA.iter().any(|kind| objects.len() > kind.len() && kind.iter().zip(objects).all(|(word, token)| token.is(word))) {
        return true;
    }
    match objects {
        [schema, names @ ..] if schema.is("SCHEMA") => listed(names).into_iter().all(is_own_schema),
        [all, _, in_, schema, names @ ..] if all.is("ALL") && in_.is("IN") && schema.is("SCHEMA") => {
            listed(names).into_iter().all(is_own_schema)
        }
        [kind, names @ ..] if KINDS.iter().any(|known| kind.is(known)) => listed(names).into_iter().all(is_in_own_schema),
        names => listed(names).into_iter().all(is_in_own_schema),
    }
}

fn is_made_by_the_dump(kind: &[&str], object: &[Token]) -> bool {
    match kind {
        ["SCHEMA"] => is_own_schema(object),
        ["LARGE", "OBJECT"] | ["SERVER"] => true,
        // Only a superuser makes these, so they are not the dump's.
        ["LANGUAGE"] | ["PROCEDURAL", "LANGUAGE"] | ["EVENT", "TRIGGER"] | ["FOREIGN", "DATA", "WRAPPER"] => false,
        _ => is_in_own_schema(object),
    }
}

/// The parts between commas outside of parentheses.
fn listed(mut tokens: &[Token]) -> Vec<&[Token]> {
    let mut parts = Vec::new();
    while let Some(comma) = at_depth_zero(tokens, |token| *token == Token::Symbol(b',')) {
        parts.push(&tokens[..comma]);
        tokens = &tokens[comma + 1..];
    }
    parts.push(tokens);
    parts
}

fn is_own_schema(name: &[Token]) -> bool {
    matches!(name, [schema] if schema.name().is_some_and(|schema| !is_postgresqls(schema)))
}

/// `schema.object`, and what tells the object from others of its name; not `database.schema.object`.
fn is_in_own_schema(object: &[Token]) -> bool {
    matches!(object, [schema, Token::Symbol(b'.'), _, rest @ ..]
        if is_own_schema(std::slice::from_ref(schema)) && rest.first() != Some(&Token::Symbol(b'.')))
}

/// No other schema may be named like these; see *CREATE SCHEMA*, PostgreSQL 17.
fn is_postgresqls(schema: &str) -> bool {
    schema.starts_with("pg_") || schema == "information_schema"
}

/// Nothing where there is a literal, a comment, or anything else that these statements do not have.
fn tokens(statement: &[u8]) -> Option<Vec<Token>> {
    let mut tokens = Vec::new();
    let mut rest = statement.trim_ascii_start();
    while let Some(&byte) = rest.first() {
        if byte == b'"' || byte.is_ascii_alphanumeric() || byte == b'_' || byte >= 0x80 {
            let (name, after) = identifier(rest)?;
            tokens.push(if byte == b'"' { Token::Name(name) } else { Token::Word(name.to_ascii_uppercase(), name.to_ascii_lowercase()) });
            rest = after;
        } else if byte == b'\'' || byte == b'$' || rest.starts_with(b"--") || rest.starts_with(b"/*") {
            return None;
        } else {
            tokens.push(Token::Symbol(byte));
            rest = &rest[1..];
        }
        rest = rest.trim_ascii_start();
    }
    Some(tokens)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_pg_dump_writes_is_understood() {
        let owner = |role: &str| Ownership::Owner(role.to_owned());
        for (statement, ownership) in [
            ("ALTER TABLE public.orders OWNER TO postgres;", owner("postgres")),
            ("ALTER TABLE public.\"a;b\" OWNER TO \"O'Brien\";", owner("O'Brien")),
            ("ALTER TABLE public.orders OWNER TO Postgres;", owner("postgres")),
            ("ALTER FUNCTION public.f(a integer, b character varying) OWNER TO app;", owner("app")),
            ("ALTER OPERATOR public.=== (integer, integer) OWNER TO app;", owner("app")),
            ("ALTER OPERATOR CLASS public.oc USING btree OWNER TO app;", owner("app")),
            ("ALTER LARGE OBJECT 16400 OWNER TO app;", owner("app")),
            ("ALTER SCHEMA s OWNER TO pg_database_owner;", owner("pg_database_owner")),
            ("GRANT SELECT(id),UPDATE(id) ON TABLE public.orders TO reader;", Ownership::Privileges),
            ("GRANT ALL ON SCHEMA public TO PUBLIC;", Ownership::Privileges),
            ("GRANT ALL ON FUNCTION public.f(a integer, b text) TO app;", Ownership::Privileges),
            ("GRANT SELECT ON ALL TABLES IN SCHEMA public TO app;", Ownership::Privileges),
            ("GRANT SELECT ON LARGE OBJECT 16400 TO app;", Ownership::Privileges),
            ("GRANT USAGE ON FOREIGN SERVER elsewhere TO app;", Ownership::Privileges),
            ("REVOKE USAGE ON SCHEMA public FROM PUBLIC;", Ownership::Privileges),
            ("ALTER DEFAULT PRIVILEGES FOR ROLE a IN SCHEMA s GRANT SELECT ON TABLES TO b;", Ownership::Privileges),
            ("SET SESSION AUTHORIZATION app;", Ownership::Privileges),
            ("RESET SESSION AUTHORIZATION;", Ownership::Privileges),
        ] {
            for reach in [Reach::OwnSchemas, Reach::Catalog] {
                assert_eq!(of(statement.as_bytes(), reach), ownership, "{statement}");
            }
        }
    }

    #[test]
    fn what_is_postgresqls_own_is_given_away_only_for_our_own_dumps() {
        for statement in [
            "GRANT EXECUTE ON FUNCTION pg_catalog.lo_export(oid, text) TO PUBLIC;",
            "GRANT ALL ON FUNCTION public.f(integer), pg_catalog.pg_read_file(text) TO app;",
            "GRANT EXECUTE ON FUNCTION lo_export(oid, text) TO PUBLIC;",
            "GRANT SELECT ON pg_catalog.pg_authid TO PUBLIC;",
            "GRANT SELECT ON TABLE \"pg_catalog\".pg_authid TO PUBLIC;",
            "GRANT SELECT ON pg_authid TO PUBLIC;",
            "GRANT SELECT ON shop.pg_catalog.pg_authid TO PUBLIC;",
            "GRANT SELECT(rolpassword) ON TABLE public.t, PG_CATALOG.pg_authid TO app;",
            "GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA public, pg_catalog TO app;",
            "GRANT CREATE ON SCHEMA pg_catalog TO app;",
            "GRANT SELECT ON information_schema.sql_features TO app;",
            "REVOKE ALL ON FUNCTION pg_catalog.now() FROM PUBLIC;",
        ] {
            assert_eq!(of(statement.as_bytes(), Reach::OwnSchemas), Ownership::None, "{statement}");
            assert_eq!(of(statement.as_bytes(), Reach::Catalog), Ownership::Privileges, "{statement}");
        }
        for statement in [
            "ALTER FUNCTION pg_catalog.lo_export(oid, text) OWNER TO app;",
            "ALTER FUNCTION lo_export(oid, text) OWNER TO app;",
            "ALTER SCHEMA pg_catalog OWNER TO app;",
            "ALTER LANGUAGE c OWNER TO app;",
            "ALTER TABLE information_schema.sql_features OWNER TO app;",
        ] {
            assert_eq!(of(statement.as_bytes(), Reach::OwnSchemas), Ownership::None, "{statement}");
            assert_eq!(of(statement.as_bytes(), Reach::Catalog), Ownership::Owner("app".to_owned()), "{statement}");
        }
    }

    #[test]
    fn nothing_that_runs_code_or_reaches_out_is_taken() {
        for statement in [
            "ALTER TABLE t ADD COLUMN c int DEFAULT evil(), OWNER TO postgres;",
            "ALTER TABLE t ALTER c TYPE int USING evil(c) , OWNER TO postgres;",
            "ALTER TABLE t ENABLE TRIGGER evil OWNER TO postgres;",
            "ALTER DATABASE other OWNER TO app;",
            "ALTER TABLESPACE ts OWNER TO app;",
            "ALTER ROLE app SUPERUSER;",
            "ALTER SYSTEM SET archive_command TO 'x';",
            "GRANT postgres TO app;",
            "GRANT \"a\" TO app;",
            "GRANT ALL ON DATABASE other TO app;",
            "GRANT ALL ON PARAMETER archive_command TO app;",
            "GRANT ALL ON TABLESPACE ts TO app;",
            "ALTER TABLE ONLY public.t ADD CONSTRAINT p PRIMARY KEY (id);",
            "GRANT SELECT ON t TO app",
            "SET search_path = x;",
        ] {
            assert_eq!(of(statement.as_bytes(), Reach::Catalog), Ownership::None, "{statement}");
        }
    }
}
