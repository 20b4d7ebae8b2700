//! SQL that only reads. A real parser reads it; what it cannot read, what readers disagree on, and what has an effect is
//! refused.

use alloc::{boxed::Box, string::String, vec::Vec};
use core::ops::ControlFlow;

use portcullis_policy::Pattern;
use sqlparser::{
    ast::{
        BinaryOperator, Expr, ObjectName, Query, Select, SetExpr, Statement, TableFactor, Visit, Visitor,
        With,
    },
    dialect::{self, GenericDialect, MsSqlDialect, MySqlDialect, PostgreSqlDialect, SQLiteDialect},
    keywords::Keyword,
    parser::Parser,
    tokenizer::{Token, Tokenizer, Whitespace},
};

use crate::lower;

/// Bytes of a statement.
const BYTES_MAX: usize = 16_384;
/// Words and signs of a statement: a chain of operators is a tree as deep as it is long.
const TOKENS_MAX: usize = 2_048;
/// Bytes of the stack for one statement; what is not used is not taken.
const STACK: usize = 32 << 20;
/// Brackets and queries in one another.
const DEPTH_MAX: usize = 24;

/// Joins of a statement: each may be read inside the one before.
const JOINS_MAX: usize = 64;

/// How SQL is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// What all have in common: no quotes but `'` and `"`, no brackets, no backslashes.
    Generic,
    /// Microsoft SQL Server.
    MsSql,
    /// MySQL and MariaDB.
    MySql,
    /// PostgreSQL.
    PostgreSql,
    /// SQLite.
    Sqlite,
}

impl Dialect {
    fn reader(self) -> Box<dyn dialect::Dialect> {
        match self {
            Self::Generic => Box::new(GenericDialect {}),
            Self::MsSql => Box::new(MsSqlDialect {}),
            Self::MySql => Box::new(MySqlDialect {}),
            Self::PostgreSql => Box::new(PostgreSqlDialect {}),
            Self::Sqlite => Box::new(SQLiteDialect {}),
        }
    }
}

/// What may be read with SQL.
#[derive(Clone, Debug, PartialEq)]
pub struct SqlRule {
    /// How it is read.
    pub dialect: Dialect,
    /// Tables as the query names them, lower case; without it all.
    pub tables: Option<Vec<Pattern>>,
    /// Functions, lower case, without their schema; without it all but those known to have effects.
    pub functions: Option<Vec<Pattern>>,
}

type Verdict = Result<(), &'static str>;

impl SqlRule {
    pub(crate) fn check(&self, text: &str) -> Verdict {
        if text.len() > BYTES_MAX {
            return Err("is too long");
        }
        if text.chars().any(|c| c.is_control() && !matches!(c, '\n' | '\r' | '\t')) {
            return Err("holds a control character");
        }
        // A backslash ends a text or does not, by a setting of the server; a comment may be code.
        if ["\\'", "\\\"", "\\`", "/*"].iter().any(|odd| text.contains(odd)) {
            return Err("is SQL with a comment or an escaped quote");
        }
        // What the library does not guard is the dropping of a deep tree.
        stacker::grow(STACK, || self.read(text))
    }

    fn read(&self, text: &str) -> Verdict {
        let reader = self.dialect.reader();
        let tokens = Tokenizer::new(&*reader, text).tokenize().map_err(|_| "is SQL that cannot be read")?;
        let tokens = self.plain(tokens)?;
        let statements = Parser::new(&*reader)
            .with_recursion_limit(DEPTH_MAX)
            .with_tokens(tokens)
            .parse_statements()
            .map_err(|_| "is SQL that cannot be read")?;
        match &*statements {
            [Statement::Query(query)] => self.query(query),
            [_] => Err("is SQL that does more than read"),
            [] => Err("is empty"),
            _ => Err("is more than one statement"),
        }
    }

    /// The words and signs, where every reader takes them alike.
    fn plain(&self, tokens: Vec<Token>) -> Result<Vec<Token>, &'static str> {
        let mut out: Vec<Token> = Vec::with_capacity(tokens.len());
        let (mut depth, mut joins) = (0_usize, 0_usize);
        for token in tokens {
            match &token {
                Token::Whitespace(Whitespace::Space | Whitespace::Newline | Whitespace::Tab) => continue,
                Token::Whitespace(Whitespace::SingleLineComment { .. } | Whitespace::MultiLineComment(_)) => {
                    return Err("is SQL with a comment or an escaped quote");
                }
                Token::Word(word)
                    if word.quote_style.is_some()
                        && word.value.contains(['\'', '"', '`', '[', ']', ';', '\\', '\n']) =>
                {
                    return Err("is SQL with a name that readers take differently");
                }
                Token::DollarQuotedString(_) if self.dialect != Dialect::PostgreSql => {
                    return Err("is SQL in another dialect than the declared one");
                }
                Token::Word(word)
                    if matches!(word.keyword, Keyword::APPLY | Keyword::JOIN | Keyword::STRAIGHT_JOIN) =>
                {
                    joins += 1;
                }
                Token::LParen | Token::LBracket | Token::LBrace => depth += 1,
                Token::RParen | Token::RBracket | Token::RBrace => depth = depth.saturating_sub(1),
                Token::Backslash => return Err("is SQL that cannot be read"),
                _ => {}
            }
            let own = |token: &Token| match token {
                Token::LBracket | Token::Sharp | Token::Placeholder(_) => true,
                Token::Word(word) => {
                    word.quote_style.is_some_and(|quote| quote != '"') || word.value.contains('$')
                }
                Token::SingleQuotedString(text) | Token::DoubleQuotedString(text) => text.contains('\\'),
                _ => false,
            };
            if self.dialect == Dialect::Generic && own(&token) {
                return Err("is SQL of one dialect, and none is declared");
            }
            if depth > DEPTH_MAX || joins > JOINS_MAX || out.len() >= TOKENS_MAX {
                return Err("is SQL too long or too deep to judge");
            }
            out.push(token);
        }
        Ok(out)
    }

    fn query(&self, query: &Query) -> Verdict {
        let mut judge = Judge { rule: self, known: Vec::new(), nested_with: false };
        // A name that a query gives to a part of itself is no table, but only behind the part that has it.
        for (with, cte) in
            query.with.iter().flat_map(|with| with.cte_tables.iter().map(move |cte| (with, cte)))
        {
            if with.recursive {
                judge.known.push(lower(&cte.alias.name.value));
            }
            judge.of(&*cte.query)?;
            if !with.recursive {
                judge.known.push(lower(&cte.alias.name.value));
            }
        }
        judge.nested_with = true;
        judge.of(query)
    }

    fn function(&self, name: &ObjectName) -> Verdict {
        let name = name.0.last().and_then(|part| part.as_ident()).map(|ident| lower(&ident.value));
        let name = name.ok_or("is SQL that cannot be read")?;
        if has_effect(&name) {
            return Err("calls a function that does more than read");
        }
        match &self.functions {
            Some(listed) if !listed.iter().any(|pattern| pattern.matches(&name)) => {
                Err("calls a function that is not declared")
            }
            _ => Ok(()),
        }
    }

    fn table(&self, name: &str) -> Verdict {
        match &self.tables {
            Some(listed) if !listed.iter().any(|pattern| pattern.matches(name)) => {
                Err("reads a table that is not declared")
            }
            _ => Ok(()),
        }
    }
}

struct Judge<'a> {
    rule: &'a SqlRule,
    /// Names that the statement gives to parts of itself.
    known: Vec<String>,
    /// Whether one `WITH` may still come: that of the statement itself.
    nested_with: bool,
}

impl Judge<'_> {
    fn of(&mut self, part: &impl Visit) -> Verdict {
        match part.visit(self) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(why) => Err(why),
        }
    }

    fn with(&mut self, with: Option<&With>) -> Verdict {
        if with.is_some() && !core::mem::take(&mut self.nested_with) && self.rule.tables.is_some() {
            return Err("names parts of itself where it cannot be told which tables it reads");
        }
        self.nested_with = false;
        Ok(())
    }

    fn body(&self, body: &SetExpr) -> Verdict {
        let mut open = Vec::from([body]);
        while let Some(body) = open.pop() {
            match body {
                SetExpr::Select(_) | SetExpr::Query(_) | SetExpr::Values(_) => {}
                SetExpr::SetOperation { left, right, .. } => open.extend([&**left, &**right]),
                SetExpr::Insert(_) | SetExpr::Update(_) | SetExpr::Delete(_) | SetExpr::Merge(_) => {
                    return Err("is SQL that does more than read");
                }
                SetExpr::Table(table) => {
                    let parts = table.schema_name.iter().chain(&table.table_name);
                    let parts: Vec<String> = parts.map(|part| lower(part)).collect();
                    self.rule.table(&parts.join("."))?;
                }
            }
        }
        Ok(())
    }
}

fn flow(verdict: Verdict) -> ControlFlow<&'static str> {
    match verdict {
        Ok(()) => ControlFlow::Continue(()),
        Err(why) => ControlFlow::Break(why),
    }
}

impl Visitor for Judge<'_> {
    type Break = &'static str;

    fn pre_visit_statement(&mut self, statement: &Statement) -> ControlFlow<&'static str> {
        match statement {
            Statement::Query(_) => ControlFlow::Continue(()),
            _ => ControlFlow::Break("is SQL that does more than read"),
        }
    }

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<&'static str> {
        flow(self.with(query.with.as_ref()))?;
        let more = !query.locks.is_empty() || query.settings.is_some() || query.format_clause.is_some();
        if more || !query.pipe_operators.is_empty() {
            return ControlFlow::Break("is SQL that does more than read");
        }
        flow(self.body(&query.body))
    }

    fn pre_visit_select(&mut self, select: &Select) -> ControlFlow<&'static str> {
        if select.into.is_some() {
            return ControlFlow::Break("is SQL that does more than read");
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_relation(&mut self, name: &ObjectName) -> ControlFlow<&'static str> {
        let parts: Option<Vec<String>> =
            name.0.iter().map(|part| part.as_ident().map(|ident| lower(&ident.value))).collect();
        let Some(parts) = parts else { return ControlFlow::Break("is SQL that cannot be read") };
        // The fourth part is another server.
        if parts.len() > 3 {
            return ControlFlow::Break("reads from another server");
        }
        match &*parts {
            [name] if self.known.contains(name) => ControlFlow::Continue(()),
            _ => flow(self.rule.table(&parts.join("."))),
        }
    }

    fn pre_visit_table_factor(&mut self, factor: &TableFactor) -> ControlFlow<&'static str> {
        match factor {
            TableFactor::Table { name, args: Some(args), .. } if args.settings.is_none() => {
                flow(self.rule.function(name))
            }
            TableFactor::Function { name, .. } => flow(self.rule.function(name)),
            TableFactor::Table { args: None, with_hints, .. } if with_hints.is_empty() => {
                ControlFlow::Continue(())
            }
            TableFactor::Derived { .. }
            | TableFactor::JsonTable { .. }
            | TableFactor::NestedJoin { .. }
            | TableFactor::OpenJsonTable { .. }
            | TableFactor::Pivot { .. }
            | TableFactor::TableFunction { .. }
            | TableFactor::UNNEST { .. }
            | TableFactor::Unpivot { .. } => ControlFlow::Continue(()),
            // Hints lock; the rest is of dialects that cannot be declared.
            TableFactor::Table { .. }
            | TableFactor::MatchRecognize { .. }
            | TableFactor::SemanticView { .. }
            | TableFactor::UnpivotExpr { .. }
            | TableFactor::XmlTable { .. } => ControlFlow::Break("is SQL that cannot be judged"),
        }
    }

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<&'static str> {
        match expr {
            Expr::Function(function) => flow(self.rule.function(&function.name)),
            Expr::BinaryOp { op: BinaryOperator::Assignment, .. } => {
                ControlFlow::Break("is SQL that does more than read")
            }
            _ => ControlFlow::Continue(()),
        }
    }
}

/// Functions with which a query reads files, runs programs, reaches other machines, changes or locks something, waits, or
/// runs a text as SQL; as their vendors document them.
#[rustfmt::skip]
const EFFECTS: &[&str] = &[
    "benchmark", "crosstab", "crosstabn", "cursor_to_xml", "cursor_to_xmlschema", "database_to_xml",
    "database_to_xml_and_xmlschema", "edit", "file_read", "file_write", "fsdir", "get_lock", 
    "load_extension", "load_file", "lowrite", "loread", "master_pos_wait",
    "nextval", "opendatasource", "openquery", "openrowset", "query_to_xml", "query_to_xml_and_xmlschema",
    "query_to_xmlschema", "read_blob", "read_csv", "read_csv_auto", "read_json", "read_json_auto", "read_ndjson",
    "read_parquet", "read_text", "readfile", "release_all_locks", "release_lock", "schema_to_xml", "session_replication_role",
    "set_config", "setval", "sleep", "source_pos_wait", "sys_eval", "sys_exec", "sys_get", "sys_set", "table_to_xml",
    "table_to_xml_and_xmlschema", "ts_stat", "txid_current", "wait_for_executed_gtid_set",
    "wait_until_sql_thread_after_gtids", "writefile", "xpath_table", "zipfile", "connectby", 
    "fts3_tokenizer", "sqlite3_exec", "shell", "exec", "execute", "eval",
];

/// Beginnings of the names of such functions.
#[rustfmt::skip]
const EFFECT_PREFIXES: &[&str] = &[
    "aws_s3", "brin_", "dblink", "dbms_", "fn_get_audit", "fn_trace_", "fn_xe_", "gin_clean", "http_", "httpuri",
    "lo_", "pg_advisory", "pg_backup", "pg_cancel", "pg_copy", "pg_create", "pg_current_logfile", "pg_drop", "pg_export",
    "pg_extension", "pg_file", "pg_hba", "pg_import", "pg_log", "pg_ls", "pg_logical", "pg_notify", "pg_promote", "pg_read",
    "pg_reload", "pg_replication", "pg_rotate", "pg_signal", "pg_sleep", "pg_start", "pg_stat_file", "pg_stat_reset", "pg_stop",
    "pg_switch", "pg_sync", "pg_terminate", "pg_try_advisory", "pg_wal", "sp_", "sqlar_", "utl_", "xp_",
];

fn has_effect(name: &str) -> bool {
    EFFECTS.contains(&name) || EFFECT_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}
