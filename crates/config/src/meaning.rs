//! What operators declare parameters of tools to mean, as written, and compiled.

use std::collections::BTreeMap;

use portcullis_meaning::{
    CommandRule, Dialect, EmailRule, HostRule, IdentifierRule, LiteralRule, Meaning, Meanings, PathRule,
    Pointer, SqlRule, UrlRule,
};
use portcullis_policy::Pattern;

use super::{
    decode::{Walk, choice, section},
    primitives::Bounded,
    values::PatternText,
    yaml::Node,
};

/// Meanings by tool, then by parameter.
pub(crate) type ParametersSection = BTreeMap<String, BTreeMap<String, ParameterSection>>;

section! {
    /// What a parameter means: exactly one of these. An argument that is something else is refused with
    /// `arguments.meaning`. Elements of arrays are judged one by one; `null` passes.
    (crate) ParameterSection {
        /// A program with arguments, written without anything that a shell reads.
        command: Option<CommandSection>;
        /// The address of one mailbox, without a name or quotes.
        email: Option<EmailSection>;
        /// The name or address of a machine, without a port.
        host: Option<HostSection>;
        /// ASCII letters, digits, `_`, `-` and `.`, beginning with a letter, a digit or `_`.
        identifier: Option<IdentifierSection>;
        /// Text of letters, digits, spaces and `. , : _ - / @ +` that no interpreter takes for an option, a formula or code.
        literal: Option<LiteralSection>;
        /// One of these texts, exactly; numbers and booleans as JSON writes them.
        one_of: Option<Vec<String>>;
        /// A file or folder. By its letters alone: where a link on the server leads cannot be seen from here.
        path: Option<PathSection>;
        /// A query that only reads: one statement, `SELECT`, `WITH` or `VALUES`, without comments.
        sql: Option<SqlSection>;
        /// A URL. What its name resolves to, and where its server redirects, is for the MCP server to watch.
        url: Option<UrlSection>;
    }
}

section! {
    /// A command.
    (crate) CommandSection {
        /// Programs that may be named, without a folder. None: no command at all.
        programs: Vec<String>;
    }
}

section! {
    /// A mailbox.
    (crate) EmailSection {
        /// Its domain: names, or `*.example.com` for all below one.
        to: Vec<String>;
    }
}

section! {
    /// A machine.
    (crate) HostSection {
        /// Names or addresses, `*.example.com` for all below one, `*` for all.
        to: Vec<String>;
        /// Machines count that are not public. One that is named without a star counts anyway.
        allow_private: bool = false;
    }
}

section! {
    /// An identifier.
    (crate) IdentifierSection {
        /// Most characters.
        length_max: Bounded<1, 1_024> = Bounded(128);
    }
}

section! {
    /// Plain text.
    (crate) LiteralSection {
        /// Most bytes.
        length_max: Bounded<1, 65_536> = Bounded(1_024);
    }
}

section! {
    /// A file or folder. Judged with escapes decoded, with backslashes as slashes, with look-alike letters replaced: in
    /// every reading it has to stay.
    (crate) PathSection {
        /// Folders that it has to be in, absolute: `/srv/docs`, `C:\docs` or `\\server\share\docs`.
        within: Vec<String>;
        /// Relative paths count as meant from one of them.
        relative: bool = true;
    }
}

section! {
    /// A query that only reads. A database user without the right to write is the better half of this.
    (crate) SqlSection {
        /// How it is read. `generic` takes only what all dialects read alike.
        dialect: SqlDialect = SqlDialect::Generic;
        /// Tables as the query names them, in lower case; `*` stands for any text. Without it: all.
        tables: Option<Vec<PatternText>>;
        /// Functions in lower case, without a schema. Without it: all but those known to do more than read.
        functions: Option<Vec<PatternText>>;
    }
}

section! {
    /// A URL, written so that all readers take it alike: no user name, no other form of an address than the usual one.
    (crate) UrlSection {
        /// Its host: names or addresses, `*.example.com` for all below one, `*` for all.
        to: Vec<String>;
        /// Schemes.
        schemes: Vec<String> = ["https".to_owned(), "http".to_owned()].to_vec();
        /// Ports beside that of the scheme.
        ports: Vec<Bounded<1, 65_535>>;
        /// Hosts count that are not public. One that is named without a star counts anyway.
        allow_private: bool = false;
    }
}

choice! {
    /// How SQL is read.
    (crate) SqlDialect {
        /// What all have in common: no quotes but `'` and `"`, no backslashes, no `[`.
        Generic = "generic",
        /// Microsoft SQL Server.
        MsSql = "mssql",
        /// MySQL and MariaDB.
        MySql = "mysql",
        /// PostgreSQL.
        PostgreSql = "postgresql",
        /// SQLite.
        Sqlite = "sqlite",
    }
}

impl ParameterSection {
    /// As it is enforced.
    fn compiled(&self) -> Result<Meaning, &'static str> {
        let Self { command, email, host, identifier, literal, one_of, path, sql, url } = self;
        let mut all: Vec<Result<Meaning, &'static str>> = Vec::new();
        all.extend(
            command
                .as_ref()
                .map(|section| Ok(Meaning::Command(CommandRule { programs: section.programs.clone() }))),
        );
        all.extend(email.as_ref().map(|section| EmailRule::new(texts(&section.to)).map(Meaning::Email)));
        all.extend(
            host.as_ref()
                .map(|section| HostRule::new(texts(&section.to), section.allow_private).map(Meaning::Host)),
        );
        all.extend(identifier.as_ref().map(|section| {
            Ok(Meaning::Identifier(IdentifierRule { length_max: length(section.length_max.0) }))
        }));
        all.extend(
            literal.as_ref().map(|section| {
                Ok(Meaning::Literal(LiteralRule { length_max: length(section.length_max.0) }))
            }),
        );
        all.extend(one_of.as_ref().map(|texts| Ok(Meaning::OneOf(texts.clone()))));
        all.extend(
            path.as_ref()
                .map(|section| PathRule::new(texts(&section.within), section.relative).map(Meaning::Path)),
        );
        all.extend(sql.as_ref().map(|section| Ok(Meaning::Sql(section.compiled()))));
        all.extend(url.as_ref().map(UrlSection::compiled));
        let mut all = all.into_iter();
        match (all.next(), all.next()) {
            (Some(one), None) => one,
            (None, _) => Err("says nothing"),
            (Some(_), Some(_)) => Err("says more than one thing"),
        }
    }
}

impl SqlSection {
    fn compiled(&self) -> SqlRule {
        let patterns = |all: &Option<Vec<PatternText>>| {
            let parsed = |all: &Vec<PatternText>| all.iter().filter_map(|one| one.0.parse().ok()).collect();
            all.as_ref().map(parsed)
        };
        SqlRule {
            dialect: match self.dialect {
                SqlDialect::Generic => Dialect::Generic,
                SqlDialect::MsSql => Dialect::MsSql,
                SqlDialect::MySql => Dialect::MySql,
                SqlDialect::PostgreSql => Dialect::PostgreSql,
                SqlDialect::Sqlite => Dialect::Sqlite,
            },
            tables: patterns(&self.tables),
            functions: patterns(&self.functions),
        }
    }
}

impl UrlSection {
    fn compiled(&self) -> Result<Meaning, &'static str> {
        let hosts = HostRule::new(texts(&self.to), self.allow_private)?;
        let good = |scheme: &String| {
            !scheme.is_empty()
                && scheme.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'+')
        };
        if self.schemes.is_empty() || !self.schemes.iter().all(good) {
            return Err("names no scheme, or one that is not written like `https`");
        }
        let ports = self.ports.iter().filter_map(|port| u16::try_from(port.0).ok()).collect();
        Ok(Meaning::Url(UrlRule { hosts, schemes: self.schemes.clone(), ports }))
    }
}

fn texts(all: &[String]) -> impl Iterator<Item = &str> {
    all.iter().map(String::as_str)
}

fn length(max: u64) -> usize {
    usize::try_from(max).unwrap_or(usize::MAX)
}

/// Reports what is no tool, no parameter or no meaning.
pub(super) fn check(declared: &ParametersSection, node: &Node, walk: &mut Walk) {
    let at = |tool: &str| node.get("parameters").and_then(|(_, map)| map.get(tool)).map(|(_, value)| value);
    for (tool, parameters) in declared {
        let here = at(tool).unwrap_or(node);
        if let Err(error) = tool.parse::<Pattern>() {
            let hint = "write the name of a tool; `*` stands for any text, `\\*` for a star";
            walk.key("parameters", |walk| walk.key(tool, |walk| walk.report(here, error.to_string(), hint)));
        }
        for (parameter, section) in parameters {
            let here = here.get(parameter).map_or(here, |(_, value)| value);
            let pointer = parameter.parse::<Pointer>().map(|_| ());
            if let Err(error) = pointer.and_then(|()| section.compiled().map(|_| ())) {
                let hint = "docs/operate/inspection.md says what parameters can mean, and how they are named";
                walk.key("parameters", |walk| {
                    walk.key(tool, |walk| walk.key(parameter, |walk| walk.report(here, error, hint)));
                });
            }
        }
    }
}

/// As they are enforced. What is written was checked when it was read, so nothing is lost here.
pub(super) fn compiled(declared: &ParametersSection) -> Meanings {
    let mut meanings = Meanings::default();
    for (tool, parameters) in declared {
        for (parameter, section) in parameters {
            if let (Ok(tool), Ok(parameter), Ok(meaning)) =
                (tool.parse(), parameter.parse(), section.compiled())
            {
                meanings.declare(tool, parameter, meaning);
            }
        }
    }
    meanings
}
