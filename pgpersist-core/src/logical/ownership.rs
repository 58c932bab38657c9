//! Which statements of a dump say to whom things belong.
//!
//! A dump is loaded by a role that may do nothing outside its database; giving objects away and granting on behalf of
//! others needs a superuser. Those statements are taken out of the script and run at the end by one. What is taken must therefore
//! run no code of the dump: only the forms below, whole, and nothing that reaches beyond the database.

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
pub(super) fn of(statement: &[u8]) -> Ownership {
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
        if let Some(owner) = new_owner(rest) {
            return Ownership::Owner(owner.to_owned());
        }
        matches!(rest, [default, privileges, ..] if default.is("DEFAULT") && privileges.is("PRIVILEGES"))
    } else if first.is("GRANT") || first.is("REVOKE") {
        is_grant_in_database(rest)
    } else {
        matches!(tokens, [_, session, authorization] if session.is("SESSION") && authorization.is("AUTHORIZATION"))
            || matches!(tokens, [set, session, authorization, role]
                if set.is("SET") && session.is("SESSION") && authorization.is("AUTHORIZATION") && role.name().is_some())
    };
    if is_known { Ownership::Privileges } else { Ownership::None }
}

/// `TABLE public.t OWNER TO role`: a kind, a name with what tells it from others of its name, and nothing else. A second
/// action of the same `ALTER TABLE` could run code.
fn new_owner(tokens: &[Token]) -> Option<&str> {
    let [name @ .., owner, to, role] = tokens else { return None };
    if !owner.is("OWNER") || !to.is("TO") {
        return None;
    }
    let kind = KINDS.iter().find(|kind| name.len() > kind.len() && kind.iter().zip(name).all(|(word, token)| token.is(word)))?;
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
    (depth == 0).then(|| role.name()).flatten()
}

/// Databases, tablespaces and settings are shared by all databases, and a membership in a role has no `ON`.
fn is_grant_in_database(tokens: &[Token]) -> bool {
    let mut depth = 0_u32;
    for (place, token) in tokens.iter().enumerate() {
        match token {
            Token::Symbol(b'(') => depth += 1,
            Token::Symbol(b')') => depth = depth.saturating_sub(1),
            token if depth == 0 && (token.is("TO") || token.is("FROM")) => return false,
            token if depth == 0 && token.is("ON") => {
                return tokens
                    .get(place + 1)
                    .is_some_and(|kind| !["DATABASE", "TABLESPACE", "PARAMETER"].iter().any(|shared| kind.is(shared)));
            }
            _ => {}
        }
    }
    false
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
            ("REVOKE USAGE ON SCHEMA public FROM PUBLIC;", Ownership::Privileges),
            ("ALTER DEFAULT PRIVILEGES FOR ROLE a IN SCHEMA s GRANT SELECT ON TABLES TO b;", Ownership::Privileges),
            ("SET SESSION AUTHORIZATION app;", Ownership::Privileges),
            ("RESET SESSION AUTHORIZATION;", Ownership::Privileges),
        ] {
            assert_eq!(of(statement.as_bytes()), ownership, "{statement}");
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
            assert_eq!(of(statement.as_bytes()), Ownership::None, "{statement}");
        }
    }
}
