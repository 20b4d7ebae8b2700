//! SQL injection: the value is cut into tokens as a database would cut it, from outside and from inside a quoted text,
//! and what follows the first break decides.

use alloc::boxed::Box;

use portcullis_core::kind::Kind;

use super::Detector;
use crate::attacks::{Argument, Attack};

pub(super) const KIND: Kind<Box<dyn Detector>> = Kind {
    name: "sql_injection",
    doc: "Values that break out of a place in an SQL statement, in arguments.",
    build: |_| Ok(Box::new(Attack { score })),
};

mod tokens;

use tokens::{Token, Tokens};

/// Functions and names that serve attackers to learn or to wait.
const FUNCTIONS: &[&str] = &[
    "sleep",
    "benchmark",
    "pg_sleep",
    "waitfor",
    "extractvalue",
    "updatexml",
    "load_file",
    "xp_cmdshell",
    "xp_dirtree",
    "xp_regread",
    "sp_executesql",
    "sp_oacreate",
    "utl_inaddr",
    "utl_http",
    "dbms_pipe",
    "dbms_lock",
    "dbms_ldap",
    "ctxsys",
    "information_schema",
    "sysobjects",
    "syscolumns",
    "sqlite_master",
    "all_tables",
    "all_tab_columns",
    "dba_users",
    "pg_catalog",
    "randomblob",
    "generate_series",
    "lo_import",
    "openrowset",
    "opendatasource",
    "load_extension",
    "group_concat",
    "rlike",
    "procedure",
    "outfile",
    "dumpfile",
    "mysql",
    "pg_read_file",
    "current_setting",
    "sysdate",
    "xmltype",
    "httpuritype",
    "gtid_subset",
    "name_const",
    "row_count",
    "make_set",
];

/// The first word of a whole statement.
const VERBS: &[&str] = &[
    "select", "insert", "update", "delete", "drop", "create", "alter", "exec", "execute", "declare",
    "truncate", "merge", "shutdown", "grant", "with", "copy", "call", "replace", "backup", "restore",
    "attach", "pragma", "set", "begin", "if", "waitfor",
];

fn score(argument: &Argument<'_>) -> u16 {
    let text = argument.text();
    let whole = statement(text);
    let mut best = outside(text, whole);
    for quote in *b"'\"`" {
        if let Some(at) = memchr::memchr(quote, text.get(..256).unwrap_or(text)) {
            best = best.max(inside(text, at));
        }
    }
    match best {
        // A whole statement where one is meant.
        best if whole && argument.is_query() => best / 4,
        best if whole => best / 2,
        best if argument.is_prose() || argument.is_long() || argument.is_command() => best / 3,
        best => best,
    }
}

/// Whether it reads as a statement from its first word on.
fn statement(text: &[u8]) -> bool {
    let mut tokens = Tokens::new(text);
    let Some(Token::Word(verb)) = tokens.next() else { return false };
    let known = [
        "select", "insert", "update", "delete", "create", "with", "alter", "explain", "show", "describe",
        "drop",
    ];
    let second = tokens.next();
    known.contains(&verb)
        && matches!(second, Some(Token::Word(_) | Token::Sign(b'*' | b'(') | Token::Number))
        && tokens.any(|token| matches!(token, Token::Word("from" | "into" | "set" | "table" | "as")))
}

/// The value stands where a number or a name is meant.
fn outside(text: &[u8], whole: bool) -> u16 {
    let tokens: alloc::vec::Vec<Token<'_>> = Tokens::new(text).take(400).collect();
    let anywhere = anywhere(&tokens);
    // A number or a name, closing parentheses, and then what a number has no business with.
    let mut start =
        usize::from(matches!(tokens.first(), Some(Token::Number | Token::Word(_))) && !leads(tokens.first()));
    if matches!(tokens.first(), Some(Token::Sign(b'-'))) && matches!(tokens.get(1), Some(Token::Number)) {
        start = 2;
    }
    let closed = tokens
        .get(start..)
        .unwrap_or_default()
        .iter()
        .take_while(|token| **token == Token::Sign(b')'))
        .count();
    let rest = tokens.get(start + closed..).unwrap_or_default();
    let broken = if whole { 0 } else { breaks(rest, false, closed > 0) };
    anywhere.max(broken)
}

/// The value stands in a quoted text, and its first quote ends that.
fn inside(text: &[u8], quote: usize) -> u16 {
    let rest: alloc::vec::Vec<Token<'_>> =
        Tokens::new(text.get(quote + 1..).unwrap_or_default()).take(400).collect();
    // `O'Brien`: a letter on both sides is part of a name.
    let letter = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    if letter(text.get(quote + 1)) && letter(quote.checked_sub(1).and_then(|at| text.get(at))) {
        return 0;
    }
    let closed = rest.iter().take_while(|token| **token == Token::Sign(b')')).count();
    breaks(rest.get(closed..).unwrap_or_default(), true, closed > 0)
}

fn leads(token: Option<&Token<'_>>) -> bool {
    matches!(
        token,
        Some(Token::Word(
            "or" | "and"
                | "union"
                | "order"
                | "having"
                | "group"
                | "where"
                | "xor"
                | "waitfor"
                | "if"
                | "sleep"
                | "pg_sleep"
                | "benchmark"
                | "like"
                | "limit"
                | "not"
        ))
    )
}

/// What follows the place where a value ends and a statement goes on.
fn breaks(rest: &[Token<'_>], quoted: bool, closed: bool) -> u16 {
    let literal = |token: Option<&Token<'_>>| {
        matches!(token, Some(Token::Number | Token::Text | Token::Word("null" | "true" | "false")))
    };
    let sure: u16 = if quoted || closed { 900 } else { 800 };
    match rest {
        [Token::Comment, ..] if quoted || closed => 850,
        [Token::Sign(b';'), Token::Word(verb), ..] if VERBS.contains(verb) => 900,
        [Token::Sign(b';'), Token::Comment, ..] if quoted => 800,
        [Token::Word("union"), Token::Word("select" | "all" | "distinct"), ..]
        | [Token::Word("union"), Token::Sign(b'('), ..] => 950,
        [Token::Word("order" | "group"), Token::Word("by"), rest @ ..] => {
            let numbers = literal(rest.first()) || rest.contains(&Token::Comment) || calls(rest);
            if quoted || numbers { sure } else { 0 }
        }
        [Token::Word("having" | "waitfor" | "procedure"), ..] => sure,
        [Token::Word("where" | "limit"), Token::Number, ..] => 750,
        [
            Token::Word("or" | "and" | "xor" | "like" | "rlike" | "in" | "between" | "div" | "where"),
            rest @ ..,
        ]
        | [Token::Or | Token::And, rest @ ..] => {
            let rest = match rest {
                [Token::Word("not"), rest @ ..] | [Token::Sign(b'!'), rest @ ..] => rest,
                rest => rest,
            };
            condition(rest, quoted, sure)
        }
        [
            Token::Sign(b'+' | b'-' | b',' | b'*' | b'/' | b'=' | b'<' | b'>' | b'^' | b'%' | b'&' | b'|'),
            rest @ ..,
        ] if (quoted || closed) && (literal(rest.first()) || calls(rest)) => 750,
        [Token::Sign(b'+' | b',' | b'-'), rest @ ..] if calls(rest) && rest.iter().any(danger) => 800,
        [Token::Sign(b'+' | b','), first, rest @ ..]
            if literal(Some(first)) && rest.contains(&Token::Comment) =>
        {
            700
        }
        _ => 0,
    }
}

/// What stands behind `or` and `and`.
fn condition(rest: &[Token<'_>], quoted: bool, sure: u16) -> u16 {
    let skipped = rest.iter().take_while(|token| **token == Token::Sign(b'(')).count();
    let rest = rest.get(skipped..).unwrap_or_default();
    match rest {
        [Token::Number | Token::Text, Token::Compare | Token::Word("like" | "in" | "between" | "is"), ..] => {
            sure
        }
        [Token::Word("true" | "false")] | [Token::Word("true" | "false"), Token::Comment, ..] => sure,
        [
            Token::Word(
                "select" | "exists" | "ascii" | "substring" | "substr" | "length" | "mid" | "ord" | "if"
                | "case",
            ),
            ..,
        ] => sure,
        [Token::Word(_), Token::Sign(b'('), ..] => sure,
        [Token::Word(_), Token::Compare | Token::Word("like" | "is" | "between" | "in"), ..] if quoted => {
            sure
        }
        [Token::Text | Token::Number | Token::Open]
        | [Token::Text | Token::Number, Token::Comment | Token::Sign(b';'), ..]
            if quoted =>
        {
            sure
        }
        [Token::Open, ..] if quoted => sure,
        _ => 0,
    }
}

fn calls(tokens: &[Token<'_>]) -> bool {
    matches!(tokens, [Token::Word(_), Token::Sign(b'('), ..] | [Token::Sign(b'('), Token::Word("select"), ..])
}

fn danger(token: &Token<'_>) -> bool {
    matches!(token, Token::Word(word) if FUNCTIONS.contains(word))
}

/// What has no place in a value wherever it stands.
fn anywhere(tokens: &[Token<'_>]) -> u16 {
    let mut best = 0;
    for (at, token) in tokens.iter().enumerate() {
        let rest = tokens.get(at + 1..).unwrap_or_default();
        let score = match (token, rest) {
            (
                Token::Word("union"),
                [Token::Word("select"), ..]
                | [Token::Word("all" | "distinct"), Token::Word(_) | Token::Sign(b'('), ..],
            ) => 900,
            (Token::Word("waitfor"), [Token::Word("delay" | "time"), ..]) => 950,
            (Token::Word(word), [Token::Sign(b'('), ..]) if FUNCTIONS.contains(word) => 900,
            (Token::Word("into"), [Token::Word("outfile" | "dumpfile"), ..]) => 900,
            (Token::Word("exec" | "execute"), [Token::Word(name), ..])
                if name.starts_with("xp_") || name.starts_with("sp_") || *name == "master" =>
            {
                900
            }
            (Token::Word("select"), [Token::Variable, ..]) | (Token::Variable, [Token::Sign(b','), ..]) => {
                800
            }
            (Token::Word("select"), [Token::Word(word), Token::Sign(b'('), ..]) if *word != "count" => 700,
            (Token::Word("convert"), [Token::Sign(b'('), Token::Word("int"), ..]) => 800,
            (
                Token::Word("or" | "and" | "where" | "having"),
                [Token::Number, Token::Compare, Token::Number, ..],
            ) => 800,
            (
                Token::Word("or" | "and" | "where" | "having"),
                [Token::Text, Token::Compare, Token::Text, ..],
            ) => 750,
            (
                Token::Word("if" | "when"),
                [Token::Sign(b'('), Token::Number, Token::Compare, Token::Number, ..],
            ) => 750,
            (
                Token::Sign(b';'),
                [
                    Token::Word(
                        "drop" | "delete" | "truncate" | "shutdown" | "exec" | "declare" | "insert"
                        | "update" | "select",
                    ),
                    Token::Word(_) | Token::Variable | Token::Sign(b'@' | b'*'),
                    ..,
                ],
            ) => 850,
            (Token::Sign(b'('), [Token::Word("select"), ..]) => 700,
            (Token::Word(word), _)
                if word.starts_with("xp_") || matches!(*word, "utl_inaddr" | "xp_cmdshell" | "dbms_pipe") =>
            {
                850
            }
            _ => 0,
        };
        best = best.max(score);
    }
    best
}

#[cfg(test)]
mod tests {
    use crate::testing::{attacks, harmless};

    #[test]
    fn catches_values_that_break_out_of_their_place() {
        for text in [
            "' OR 1=1--",
            "' OR '1'='1",
            "admin' --",
            "admin'#",
            "\" or \"\"=\"",
            "1; DROP TABLE users",
            "1 UNION SELECT username, password FROM users",
            "1' ORDER BY 3--+",
            "'; WAITFOR DELAY '0:0:5'--",
            "1) OR SLEEP(5)#",
            "or 1=1",
            "' or username is not null or username = '",
            "'/**/or/**/1/**/=/**/1",
            "%27%20or%201%3D1",
            "1 AND (SELECT 1 FROM (SELECT SLEEP(5))a)",
            "' || (select version()) || '",
            "',NULL,NULL)--",
            "x' AND 1=(SELECT COUNT(*) FROM tabname); --",
        ] {
            attacks("sql_injection", "user_id", text);
        }
    }

    #[test]
    fn leaves_names_prose_and_whole_statements() {
        for text in [
            "O'Brien",
            "Lupita Nyong'o",
            "rock 'n' roll",
            "Tom and Jerry",
            "'rock' or 'pop'",
            "black or white -- or grey",
            "trade union members",
            "price desc",
            "it's 5 or 6 o'clock",
            "C# and F#",
            "a = b",
        ] {
            harmless("sql_injection", "q", text);
        }
        for text in ["SELECT name FROM users WHERE id = 1 OR id = 2", "SELECT a FROM t UNION SELECT b FROM u"]
        {
            harmless("sql_injection", "sql", text);
        }
    }
}
