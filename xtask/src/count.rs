//! Reads how many tests passed from what the test runners print.

use crate::process::Ended;
use crate::verdict::Verdict;

/// The runner whose output is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Exit code only: one test.
    Exit,
    /// A preparation: counts only when it fails.
    Preparation,
    /// `cargo nextest run`.
    Nextest,
    /// `cargo test`, possibly many binaries.
    Libtest,
    /// Lines `ok NAME`, `not ok NAME reason`, `skip NAME reason`.
    Lines,
}

/// Turns the end of a step into a verdict. A step that failed without naming a failed test counts as one failure,
/// and a step that ran no test at all is a failure too: an empty suite must not look green.
pub fn verdict(format: Format, ended: &Ended) -> Verdict {
    let mut verdict = match format {
        Format::Exit if ended.success() => return Verdict::passed(),
        Format::Preparation if ended.success() => return Verdict::default(),
        Format::Exit | Format::Preparation => Verdict::default(),
        Format::Nextest => nextest(&ended.output),
        Format::Libtest => libtest(&ended.output),
        Format::Lines => lines(&ended.output),
    };
    if !ended.success() && verdict.failed == 0 {
        verdict += Verdict::failed(format!("{} (see {})", ended.reason(), ended.log.display()));
    }
    if verdict.passed + verdict.failed + verdict.skipped == 0 {
        verdict += Verdict::failed(format!("no test ran (see {})", ended.log.display()));
    }
    verdict
}

fn nextest(output: &str) -> Verdict {
    let output = plain(output);
    let mut verdict = Verdict::default();
    let summary = output.lines().rev().find(|line| line.trim_start().starts_with("Summary ["));
    let counts = summary.and_then(|line| line.split_once(':')).map_or("", |(_, counts)| counts);
    for part in counts.split(',') {
        // For example `98 passed (2 slow, 1 flaky)`; the parenthesis may be cut by the comma.
        let mut words = part.split_whitespace();
        let (Some(number), Some(kind)) = (words.next(), words.next()) else { continue };
        let Ok(number) = number.parse::<u64>() else { continue };
        match kind {
            "passed" => verdict.passed += number,
            "skipped" => verdict.skipped += number,
            "failed" | "timed" | "exec" => verdict.failed += number,
            _ => {}
        }
    }
    // A test that cannot do its work here says so and ends early: that is no pass.
    for line in output.lines().map(str::trim) {
        if line.starts_with("not run: ") {
            verdict.passed = verdict.passed.saturating_sub(1);
            verdict.skipped += 1;
            verdict.notes.push(format!("skip {line}"));
        } else if line.starts_with("FLAKY ") {
            verdict.notes.push(format!("passed at the second try: {line}"));
        } else if line.starts_with("skipped in part: ") {
            verdict.skipped += 1;
            verdict.notes.push(format!("skip {line}"));
        }
    }
    let failures = output.lines().map(str::trim).filter(|line| {
        ["FAIL [", "TIMEOUT [", "ABORT ", "SIGABRT [", "SIGSEGV ["].iter().any(|mark| line.starts_with(mark))
    });
    let mut notes = failures.map(str::to_owned).collect::<Vec<_>>();
    notes.sort();
    notes.dedup();
    verdict.notes.extend(notes);
    verdict
}

fn libtest(output: &str) -> Verdict {
    let mut verdict = Verdict::default();
    for line in plain(output).lines() {
        if let Some(counts) = line.strip_prefix("test result: ") {
            let counts = counts.split_once(". ").map_or("", |(_, counts)| counts);
            for part in counts.split(';') {
                let mut words = part.split_whitespace();
                let (Some(number), Some(kind)) = (words.next(), words.next()) else { continue };
                let Ok(number) = number.parse::<u64>() else { continue };
                match kind {
                    "passed" => verdict.passed += number,
                    "failed" => verdict.failed += number,
                    "ignored" => verdict.skipped += number,
                    _ => {}
                }
            }
        } else if line.starts_with("test ") && line.ends_with("FAILED") {
            verdict.notes.push(line.to_owned());
        }
    }
    verdict
}

fn lines(output: &str) -> Verdict {
    let mut verdict = Verdict::default();
    for line in output.lines() {
        if line.starts_with("ok ") {
            verdict.passed += 1;
        } else if line.starts_with("not ok ") {
            verdict.failed += 1;
            verdict.notes.push(line.to_owned());
        } else if line.starts_with("skip ") {
            verdict.skipped += 1;
            verdict.notes.push(line.to_owned());
        }
    }
    verdict
}

/// Without terminal colours.
fn plain(output: &str) -> String {
    let mut text = String::with_capacity(output.len());
    let mut letters = output.chars();
    while let Some(letter) = letters.next() {
        if letter == '\u{1b}' {
            letters.by_ref().find(char::is_ascii_alphabetic);
        } else {
            text.push(letter);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;
    use std::process::ExitStatus;

    use super::*;

    fn ended(code: i32, output: &str) -> Ended {
        let status = Some(ExitStatus::from_raw(code << 8));
        Ended { status, output: output.to_owned(), log: "log".into() }
    }

    fn check(format: Format, code: i32, output: &str, counts: [u64; 3]) -> Verdict {
        let verdict = verdict(format, &ended(code, output));
        assert_eq!([verdict.passed, verdict.failed, verdict.skipped], counts, "{output}");
        verdict
    }

    #[test]
    fn nextest_summaries_are_read() {
        let green = "     Summary [   1.2s] 100 tests run: 100 passed (2 slow, 1 flaky), 3 skipped\n";
        check(Format::Nextest, 0, green, [100, 0, 3]);
        let red = "\u{1b}[31;1m        FAIL\u{1b}[0m [   0.004s] a b\n\u{1b}[31m     Summary\u{1b}[0m \
                   [   1.2s] 5 tests run: 2 passed, 2 failed, 1 timed out, 0 skipped\n";
        let verdict = check(Format::Nextest, 100, red, [2, 3, 0]);
        assert_eq!(verdict.notes, ["FAIL [   0.004s] a b"]);
    }

    #[test]
    fn libtest_results_are_added_up() {
        let output = "test a ... FAILED\n\
                      test result: ok. 12 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished\n\
                      test result: FAILED. 3 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out; finished\n";
        check(Format::Libtest, 101, output, [15, 1, 1]);
    }

    #[test]
    fn lines_are_counted() {
        check(Format::Lines, 1, "ok a\nnoise\nnot ok b because\nskip c no\nok d\n", [2, 1, 1]);
    }

    #[test]
    fn a_step_that_says_nothing_is_never_green() {
        check(Format::Nextest, 101, "error: could not compile", [0, 1, 0]);
        check(Format::Lines, 0, "", [0, 1, 0]);
        check(Format::Lines, 1, "ok a\n", [1, 1, 0]);
        check(Format::Exit, 1, "", [0, 1, 0]);
        check(Format::Exit, 0, "", [1, 0, 0]);
    }
}
