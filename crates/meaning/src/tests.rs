//! Each meaning against what attackers write, and against what it has to let through.

use alloc::{string::ToString, vec};

use proptest::prelude::*;

use super::*;

fn path(folders: &[&str]) -> Meaning {
    Meaning::Path(PathRule::new(folders.iter().copied(), true).unwrap())
}

fn to(hosts: &[&str], private: bool) -> HostRule {
    HostRule::new(hosts.iter().copied(), private).unwrap()
}

fn url(hosts: &[&str], ports: &[u16], private: bool) -> Meaning {
    let schemes = vec!["https".to_string(), "http".to_string()];
    Meaning::Url(UrlRule { hosts: to(hosts, private), schemes, ports: ports.to_vec() })
}

fn sql(dialect: Dialect, tables: Option<&[&str]>) -> Meaning {
    let tables = tables.map(|all| all.iter().map(|one| one.parse().unwrap()).collect());
    Meaning::Sql(SqlRule { dialect, tables, functions: None })
}

fn pass(meaning: &Meaning, texts: &[&str]) {
    for text in texts {
        assert_eq!(meaning.check(text), Ok(()), "{text:?}");
    }
}

fn refuse(meaning: &Meaning, texts: &[&str]) {
    for text in texts {
        assert!(meaning.check(text).is_err(), "{text:?} passed {meaning:?}");
    }
}

#[test]
#[rustfmt::skip]
fn a_path_stays_in_its_folders_however_it_is_written() {
    let docs = path(&["/srv/docs", "/srv/café"]);
    pass(
        &docs,
        &[
            "/srv/docs", "/srv/docs/", "/srv/docs/a/b.txt", "/srv/docs/./a//b", "/srv/docs/a/../b", "/srv/./docs/x",
            "a.txt", "a/b/../c", "./a", "my file (1).txt", "file:///srv/docs/a%20b", "file:/srv/docs/a", "100%.txt",
            "FILE://localhost/srv/docs/x", "a%20b%2fc", "notes...txt", "..a", "a..", "[id].tsx",
            "/srv/cafe\u{301}/x", "12:30 report.txt", "a\\b",
        ],
    );
    refuse(
        &docs,
        &[
            "", "/", "/srv", "/srv/docs2", "/srv/docs/..", "/srv/docs/../docs2/x", "/srv/docs/a/../../x", "..",
            "../x", "../docs/x", "a/../../x", "/etc/passwd", " /etc/passwd", "//srv/docs/x", "///etc/passwd", "~",
            "~root/x", "~/x", "$HOME/x", "a/${HOME}", "$(id)", "%APPDATA%\\x", "a\u{0}/x", "a\n/x", "..\\..\\etc",
            "a\\..\\..\\x", "C:\\Windows", "c:x", "C:/x", "\\\\host\\share", "\\etc", "..%2f..%2fetc", "%2e%2e/etc",
            "%252e%252e%252fetc", "%25252e%25252e%25252f", "..%5c..%5cetc", "..%c0%afetc", "%c0%ae%c0%ae/etc",
            "%u002e%u002e/etc", "a%00b", "．．／etc", "..\u{2215}etc", "..\u{2044}..\u{2044}etc", ".\u{200b}./etc",
            "\u{2024}\u{2024}/etc", "\u{feff}/etc/passwd", "file:///etc/passwd", "file://host/srv/docs/x",
            "file:///srv/docs/../../etc", "file:///srv/docs/../#/../docs/x", "file:etc/passwd",
            "http://host/srv/docs", "php://filter/x", "jar:///srv/docs", "[\"/etc/passwd\"]", "\"/etc/passwd\"",
            "{\"path\":1}", "/SRV/docs/x", "\u{202e}/etc",
        ],
    );
    let absolute = Meaning::Path(PathRule::new(["/srv/docs"], false).unwrap());
    pass(&absolute, &["/srv/docs/x"]);
    refuse(&absolute, &["x", "./x", "srv/docs/x"]);
    assert!(docs.check(&"a/".repeat(2_000)).is_ok() && docs.check(&"a/".repeat(3_000)).is_err());
}

#[test]
#[rustfmt::skip]
fn a_path_of_windows_stays_in_its_folders_however_it_is_written() {
    let docs = path(&["C:\\Users\\docs", "\\\\files\\share\\docs"]);
    pass(
        &docs,
        &[
            "C:\\Users\\docs\\a.txt", "c:/users/DOCS/a", "a\\b", "\\\\files\\share\\docs\\a",
            "//FILES/share/docs/a", "C:\\Users\\docs\\a\\..\\b", "file:///C:/Users/docs/a", "COMPUTER.txt",
            "common.txt",
        ],
    );
    refuse(
        &docs,
        &[
            "C:\\Users\\docs\\..\\x", "C:\\Users\\docs2", "C:docs", "D:\\Users\\docs\\a", "\\Users\\docs\\a",
            "..\\x", "a\\.. \\..\\x", "a\\...\\x", "\\\\files\\share\\x", "\\\\?\\C:\\Users\\docs\\a",
            "\\\\.\\C:\\Users\\docs", "a.txt::$DATA", "a.txt:stream", "NUL", "con.txt", "a\\COM1", "lpt9.log",
            "C:\\Users\\docs\\a*", "/etc", "\\\\files\\share\\docs\\..\\..\\other",
        ],
    );
    for folder in ["", "docs", "./docs", "/", "C:\\", "/srv/../docs", "\\\\files", "C:docs\\..", "~/docs"] {
        assert!(PathRule::new([folder], true).is_err(), "{folder}");
    }
}

#[test]
#[rustfmt::skip]
fn a_url_leads_to_a_declared_public_host_in_a_form_that_all_readers_take_alike() {
    let example = url(&["*.example.com", "api.test"], &[8443], false);
    pass(
        &example,
        &[
            "https://a.example.com", "HTTPS://A.Example.com/x?y=http://evil/#z", "http://b.a.example.com:80/",
            "https://api.test:8443/x", "https://api.test./x", "https://a.example.com/%2e%2e/ü",
        ],
    );
    refuse(
        &example,
        &[
            "", "https://example.com", "https://evil.com", "https://evil.com/a.example.com", "https://aexample.com",
            "https://a.example.com.evil.com", "https://a.example.com@evil.com/", "https://u:p@a.example.com/",
            "https://evil.com#@a.example.com", "https://evil.com\\@a.example.com", "https:a.example.com",
            "https:/a.example.com", "https:///a.example.com", "//a.example.com", "/x", "a.example.com",
            "ftp://a.example.com", "file:///etc/passwd", "javascript://a.example.com/%0aalert(1)",
            "gopher://a.example.com", "https://a.example.com:22/", "https://a.example.com:8443@evil.com/",
            "https://a.example.com:/..@evil.com", " https://a.example.com", "https://a.example.com/a b",
            "https://a.example\u{3002}com", "https://ａ.example.com", "https://a.example.com%2eevil.com",
            "https://a.exam\u{ad}ple.com", "https://a\t.example.com", "https://.example.com",
            "https://-.example.com", "[\"https://a.example.com\"]", "https://a.example.com:99999/",
        ],
    );
    let any = url(&["*"], &[], false);
    pass(&any, &["https://8.8.8.8/", "https://[2606:4700::1]/", "https://example.org"]);
    refuse(
        &any,
        &[
            "http://127.0.0.1", "http://2130706433", "http://0x7f000001", "http://0x7f.1", "http://0177.0.0.1",
            "http://127.1", "http://127.000.000.001", "http://[::1]", "http://[::ffff:127.0.0.1]",
            "http://[::ffff:7f00:1]", "http://[::127.0.0.1]", "http://[64:ff9b::7f00:1]", "http://[2002:7f00:1::]",
            "http://[fe80::1%25eth0]", "http://[fd00::1]", "http://[fec0::1]", "http://[2001:0:53aa::1]",
            "http://10.0.0.1", "http://172.16.0.1", "http://192.168.1.1", "http://169.254.169.254/latest",
            "http://100.64.0.1", "http://0.0.0.0", "http://0", "http://224.0.0.1", "http://255.255.255.255",
            "http://198.18.0.1", "http://168.63.129.16", "http://localhost", "http://LOCALHOST.",
            "http://a.localhost", "http://metadata.google.internal", "http://printer.local", "http://intranet",
            "http://127.0.0.1.nip.io", "http://localtest.me", "http://①②⑦.0.0.1", "http://[::]",
            "http://[2001:db8::1]",
        ],
    );
    pass(&url(&["*"], &[], true), &["http://10.0.0.1", "http://intranet", "http://[::1]/"]);
    let named = url(&["localhost", "127.0.0.1", "[::1]"], &[3000], false);
    pass(&named, &["http://localhost:3000/", "http://127.0.0.1", "http://[::1]:3000"]);
    refuse(&named, &["http://127.0.0.2", "http://0x7f000001", "http://[::2]"]);
    let host = Meaning::Host(to(&["*.example.com"], false));
    pass(&host, &["a.example.com", "A.EXAMPLE.COM."]);
    refuse(
        &host,
        &["a.example.com:22", "a.example.com/x", "u@a.example.com", "-oProxyCommand=x", "a.example.com;id"],
    );
    for pattern in ["", "*.", "a*.com", "*.1.2.3.4", "http://a", "a/b", "*.*.com"] {
        assert!(pattern.parse::<HostPattern>().is_err(), "{pattern}");
    }
}

#[test]
#[rustfmt::skip]
fn sql_only_reads() {
    use Dialect::{Generic, MsSql, MySql, PostgreSql, Sqlite};
    let plain = [
        "select 1", "SELECT a, b FROM t WHERE c = 'it''s; drop table x -- no' ORDER BY 1 LIMIT 5;",
        "with recent as (select * from orders where d > '2024') select count(*) from recent group by x having count(*) > 1",
        "select * from a join b on a.id = b.id left join (select 1 as x) s on true union all select 2, 3 from c",
        "select coalesce(max(n), 0), case when a in (1,2) then 'x' end from t", "values (1), (2)",
        "select \"a b\" from \"t\"",
        "with recursive n(x) as (select 1 union all select x + 1 from n where x < 9) select * from n",
    ];
    for dialect in [Generic, MsSql, MySql, PostgreSql, Sqlite] {
        pass(&sql(dialect, None), plain.get(..6).unwrap());
        refuse(
            &sql(dialect, None),
            &[
                "", ";", "drop table t", "insert into t values (1)", "update t set a = 1", "delete from t",
                "select 1; select 2", "select 1; drop table t", "select * into t2 from t",
                "select * from t for update", "explain select 1",
                "with x as (delete from t returning *) select * from x",
                "with x as (insert into t values (1) returning 1) select 1 from x",
                "with x as (update t set a = 1 returning a) select * from x", "select 1 -- x", "select 1 /* x */",
                "select /*!50000 1 */", "select '\\'; drop table t --'", "select load_extension('x')",
                "select pg_read_file('/etc/passwd')", "select lo_import('/etc/passwd')", "select sleep(9)",
                "select * from t where a = pg_sleep(9)", "select load_file('/etc/passwd')",
                "select * from dblink('x', 'y')", "select pg_catalog.pg_read_file('x')",
                "select \"pg_read_file\"('x')", "select (select xp_cmdshell('dir'))", "exec xp_cmdshell 'dir'",
                "copy t to '/tmp/x'", "select * from t into outfile '/tmp/x'", "select 1 into @a",
                "attach database 'x' as y", "pragma writable_schema = 1", "call p()", "create table t (a int)",
                "set role x", "grant all on t to u", "select a from t limit (select pg_sleep(1))",
                "select 'unclosed", "select \u{0}1", "select * from t order by pg_sleep(1)",
                "select count(*) filter (where pg_sleep(1) is null) from t",
                "select sum(1) over (order by pg_sleep(1)) from t", "select * from openrowset('a','b','c')",
                "begin", "vacuum", "select * from query_to_xml('drop table t', true, true, '')",
                "select * from a.b.c.d", "lock table t", "do $$ begin end $$",
                "select 1 union select pg_ls_dir('/')", "select * from (select pg_ls_dir('/')) x",
                "select nextval('s')", "load data infile 'x' into table t", "handler t open", "truncate t",
                "merge into a using b on 1=1 when matched then delete",
            ],
        );
    }
    pass(&sql(Sqlite, None), &plain);
    pass(
        &sql(PostgreSql, None),
        &[
            "select a::int, b->>'x' from t where c ~ '^a' and d @> '{}'", "select $$text$$", "select array[1,2]",
        ],
    );
    pass(&sql(MySql, None), &["select `a` from `t` where b like '%x%' limit 1, 2"]);
    pass(&sql(MsSql, None), &["select top 5 [a b] from [dbo].[t]"]);
    refuse(
        &sql(Generic, None),
        &[
            "select [a]", "select `a`", "select 'a\\b'", "select $$a$$", "select a # b",
            "select '[' , [ ' ]; drop table x; -- ' ]",
        ],
    );
    refuse(
        &sql(MySql, None),
        &["select $$ ; drop table x; $$", "select @a := 1", "select 1 # x", "select 1 lock in share mode"],
    );
    refuse(&sql(Sqlite, None), &["select [a]]; drop table x; --]"]);
}

#[test]
#[rustfmt::skip]
fn sql_reads_declared_tables_alone() {
    let orders = sql(Dialect::PostgreSql, Some(&["orders", "public.*"]));
    pass(
        &orders,
        &[
            "select * from orders", "select * from Public.Orders o join orders p on true", "select 1",
            "with x as (select * from orders), y as (select * from x) select * from y, x",
            "select (select max(a) from orders)",
            "with recursive n as (select 1 from orders union all select 1 from n) select * from n",
        ],
    );
    refuse(
        &orders,
        &[
            "select * from secret", "select * from orders, secret", "select (select a from secret)", "table secret",
            "select * from private.orders", "with secret as (select * from secret) select * from secret",
            "with a as (select * from b), b as (select 1) select * from a",
            "select * from (with secret as (select 1) select * from secret) x, secret",
            "select * from orders where a in (select a from secret)", "select * from orders union table secret",
            "select * from orders join lateral (select * from secret) s on true", "select * from pg_shadow",
            "with orders2 as (with secret as (select 1) select 1) select * from secret",
        ],
    );
    let none =
        SqlRule { dialect: Dialect::Sqlite, tables: None, functions: Some(vec!["count".parse().unwrap()]) };
    pass(&Meaning::Sql(none.clone()), &["select COUNT(*) from t"]);
    refuse(&Meaning::Sql(none), &["select max(a) from t"]);
}

#[test]
#[rustfmt::skip]
fn words_keep_to_their_form() {
    let run = Meaning::Command(CommandRule { programs: vec!["git".to_string(), "ls".to_string()] });
    pass(&run, &["git status", "ls -la src/main.rs", "ls"]);
    refuse(
        &run,
        &[
            "", "rm -rf x", "git status; id", "ls && id", "ls | sh", "ls $(id)", "ls `id`", "ls\nid", "ls > x",
            "./ls", "/bin/ls", "ls *", "ls ~", "git\u{a0}status", "ls 'x'", "GIT status", "ls \u{ff1b} id",
        ],
    );
    let none = Meaning::Command(CommandRule::default());
    pass(&none, &["", "  "]);
    refuse(&none, &["ls"]);
    let mail = Meaning::Email(EmailRule::new(["example.com", "*.example.org"]).unwrap());
    pass(&mail, &["a@example.com", "a.b+c@x.example.org", "o'neil@Example.com"]);
    refuse(
        &mail,
        &[
            "", "a", "a@evil.com", "a@example.com, b@evil.com", "b@evil.com;a@example.com", "A <a@example.com>",
            "a@example.com\r\nBcc: x@evil.com", "\"b@evil.com\"@example.com", "b@evil.com@example.com",
            "b%evil.com@example.com", "a@[127.0.0.1]", "@evil.com:a@example.com", "-f@example.com",
            ".a@example.com",
        ],
    );
    let id = Meaning::Identifier(IdentifierRule { length_max: 16 });
    pass(&id, &["a", "users_2", "feature-x.1", "42", "_x"]);
    refuse(
        &id,
        &["", "-rf", "a b", "../x", "a..b", "a/b", "a;b", "ü", "a\u{200b}", "12345678901234567", ".a", "a."],
    );
    let literal = Meaning::Literal(LiteralRule { length_max: 64 });
    pass(&literal, &["Müller, Hans", "2024-05-06 10:00", "straße 5"]);
    refuse(
        &literal,
        &[
            "", "a' or 1=1", "x; id", "$(id)", "{{7*7}}", "=1+1", "-rf", "a -- b", "<b>", "../x", "https://evil",
            "a\nb",
        ],
    );
    let one = Meaning::OneOf(vec!["read".to_string(), "5".to_string(), "true".to_string()]);
    pass(&one, &["read", "5"]);
    refuse(&one, &["", "Read", "read ", "write", "[\"read\"]"]);
}

fn meanings(parameter: &str) -> Meanings {
    let mut meanings = Meanings::default();
    meanings.declare("read_*".parse().unwrap(), parameter.parse().unwrap(), path(&["/srv/docs"]));
    meanings
}

fn places(parameter: &str, arguments: &str) -> Vec<String> {
    let found = meanings(parameter).check("read_file", Some(View::of(arguments.as_bytes())));
    found.into_iter().map(|breach| breach.place).collect()
}

#[test]
fn a_parameter_is_found_wherever_a_server_might_find_it() {
    for (parameter, arguments, expected) in [
        ("path", r#"{"path":"/srv/docs/x","other":"/etc"}"#, &[][..]),
        ("path", r#"{"path":"/etc"}"#, &["/path"]),
        ("path", r#"{"p\u0061th":"\u002fetc"}"#, &["/path"]),
        ("path", r#"{"PATH":"/etc"}"#, &["/PATH"]),
        ("path", r#"{"path":null}"#, &[]),
        ("path", r#"{}"#, &[]),
        ("path", r#"{"path":7}"#, &["/path"]),
        ("path", r#"{"path":true}"#, &["/path"]),
        ("path", r#"{"path":{"x":"/etc"}}"#, &["/path"]),
        ("path", r#"{"path":["/srv/docs/a","/etc",["/etc"]]}"#, &["/path/1", "/path/2/0"]),
        ("/options/path", r#"{"options":{"path":"/etc"},"path":"/etc"}"#, &["/options/path"]),
        ("/options/path", r#"{"options":[{"path":"/etc"},{"path":"x"}]}"#, &["/options/0/path"]),
        ("/options/path", r#"{"options":"{\"path\":\"/etc\"}"}"#, &["/options"]),
        ("/files/*/path", r#"{"files":[{"path":"/etc"}]}"#, &["/files/0/path"]),
        ("/files/*/path", r#"{"files":{"a":{"path":"/etc"},"b":{"path":"x"}}}"#, &["/files/a/path"]),
        ("/files/1", r#"{"files":["/etc","/etc"]}"#, &["/files/1"]),
        ("/a~1b", r#"{"a/b":"/etc"}"#, &["/a~1b"]),
    ] {
        assert_eq!(places(parameter, arguments), expected, "{parameter} {arguments}");
    }
    let all = meanings("path");
    assert!(all.check("write_file", Some(View::of(br#"{"path":"/etc"}"#))).is_empty());
    assert!(all.check("read_file", None).is_empty());
    let many = format!("{{\"path\":[{}]}}", vec!["\"/etc\""; 500].join(","));
    assert_eq!(all.check("read_file", Some(View::of(many.as_bytes()))).len(), BREACHES_MAX);
    for parameter in ["", "/", "/a//b", "/a/"] {
        assert!(parameter.parse::<Pointer>().is_err(), "{parameter}");
    }
}

#[test]
fn a_breach_holds_nothing_of_the_value_but_its_digest() {
    let found = meanings("path").check("read_file", Some(View::of(br#"{"path":"/etc/hunter2"}"#)));
    let [breach] = &*found else { panic!("{found:?}") };
    assert!(!format!("{breach:?}").contains("hunter2"));
    assert_eq!(breach.evidence, Digest::of(b"/etc/hunter2"));
    assert_eq!(breach.finding().place, "/params/arguments/path");
}

#[test]
fn guesses_come_from_formats_names_and_descriptions() {
    let schema = r#"{"properties":{
        "path":{"type":"string"},"paths":{"type":"array","items":{"type":"string"}},"baseUrl":{"type":"string"},
        "callback":{"type":"string","format":"uri"},"query":{"type":"string","description":"SQL SELECT to run"},
        "text":{"type":"string"},"count":{"type":"integer"},"mode":{"type":"string","enum":["path"]},"cmd":{"type":"string"},
        "to":{"type":"string","format":"email"},"user_id":{"type":"string"},"target":{"description":"Absolute path of it"},
        "edits":{"type":"array","items":{"type":"object","properties":{"file":{"type":"string"}}}},
        "options":{"type":"object","properties":{"host":{"type":"string"}}}}}"#;
    let found = propose(View::of(schema.as_bytes()));
    let found: Vec<(&str, Suggestion)> = found.iter().map(|one| (&*one.parameter, one.suggestion)).collect();
    let expected = [
        ("path", Suggestion::Path),
        ("paths", Suggestion::Path),
        ("baseUrl", Suggestion::Url),
        ("callback", Suggestion::Url),
        ("query", Suggestion::Sql),
        ("cmd", Suggestion::Command),
        ("to", Suggestion::Email),
        ("user_id", Suggestion::Identifier),
        ("target", Suggestion::Path),
        ("/edits/*/file", Suggestion::Path),
        ("/options/host", Suggestion::Host),
    ];
    assert_eq!(found, expected);
}

/// Statements whose trees are as deep as they are long, and such as parsers try in many ways.
#[test]
fn no_statement_takes_long_or_more_than_a_small_stack() {
    let chains: [(&str, &str, &str); 16] = [
        ("select 1", "+1", ""),
        ("select a", " is null", ""),
        ("select 1", "::int", ""),
        ("select 1", " union select 1", ""),
        ("select a", " and a", ""),
        ("select 1", " between 1 and 1", ""),
        ("select ", "not ", "1"),
        ("select ", "-", "1"),
        ("select ", "(", "1"),
        ("select * from ", "(", "t"),
        ("select ", "case when ", "1"),
        ("select ", "f(", ""),
        ("select a", ".b", ""),
        ("select a", " collate x", ""),
        ("select * from t", " join t", ""),
        ("select ", "(select ", "1"),
    ];
    let run = move || {
        for dialect in
            [Dialect::Generic, Dialect::MsSql, Dialect::MySql, Dialect::PostgreSql, Dialect::Sqlite]
        {
            let meaning = sql(dialect, None);
            for (before, link, after) in chains {
                for count in [5, 12, 23, 30, 900, 4_000] {
                    let text = format!("{before}{}{after}", link.repeat(count));
                    let closed = format!("{text}{}", ")".repeat(count));
                    for text in [text, closed] {
                        let began = std::time::Instant::now();
                        let _ = meaning.check(&text);
                        let took = began.elapsed().as_millis();
                        assert!(took < 5_000, "{before}{link}… x {count}: {took} ms");
                    }
                }
            }
        }
    };
    std::thread::Builder::new().stack_size(1 << 20).spawn(run).unwrap().join().unwrap();
}

proptest! {
    #[test]
    fn a_path_that_passes_leads_into_the_folder(parts in prop::collection::vec("\\.\\.|\\.|a|docs|srv|%2e%2e|\\\\|%2f|", 0..8)) {
        let text = parts.join("/");
        if path(&["/srv/docs"]).check(&text).is_ok() {
            // As another reader resolves it, from the folder, with escapes decoded or not.
            for text in [text.clone(), text.replace("%2e", ".").replace("%2f", "/")] {
                let joined = if text.starts_with('/') { text } else { format!("/srv/docs/{text}") };
                let mut stack: Vec<&str> = Vec::new();
                for part in joined.split('/') {
                    match part { "" | "." => {}, ".." => drop(stack.pop()), other => stack.push(other) }
                }
                prop_assert!(stack.starts_with(&["srv", "docs"]), "{:?}", stack);
            }
        }
    }

    #[test]
    fn no_text_makes_a_meaning_panic(text in any::<String>()) {
        for meaning in [path(&["/srv/docs", "C:\\x"]), url(&["*"], &[], false), sql(Dialect::Generic, None), sql(Dialect::MySql, Some(&[]))] {
            let _ = meaning.check(&text);
        }
    }
}
