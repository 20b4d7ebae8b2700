//! Reads Rust files well enough for `tidy`: comments and literals are blanked, line by line, so that a brace in a
//! string or a word in a comment means nothing.

/// One file of the work tree.
#[derive(Clone, Debug)]
pub struct Source {
    /// Path from the top of the tree, with `/`.
    pub path: String,
    /// The text as it stands.
    pub text: String,
    /// The same number of lines, without comments and the insides of literals.
    pub code: String,
}

impl Source {
    /// Reads a text.
    pub fn new(path: &str, text: String) -> Self {
        let code = blank(&text);
        Self { path: path.to_owned(), code, text }
    }

    /// The code before the tests that stand at the end of the file.
    pub fn shipped(&self) -> impl Iterator<Item = &str> {
        self.code.lines().take_while(|line| *line != "#[cfg(test)]")
    }

    /// True for a file that holds tests only.
    pub fn is_test(&self) -> bool {
        let mut parts = self.path.split('/');
        parts.any(|part| matches!(part, "tests" | "tests.rs" | "benches" | "fuzz_targets"))
    }

    /// Every function: its name, the line it starts on, and how many lines of code its body has.
    pub fn functions(&self) -> Vec<(String, usize, usize)> {
        let mut found = Vec::new();
        let mut open: Vec<Function> = Vec::new();
        let mut depth = 0_usize;
        for (number, line) in self.code.lines().enumerate() {
            for function in open.iter_mut().filter(|function| function.body) {
                function.lines += usize::from(!line.trim().is_empty());
            }
            let mut previous = "";
            for word in words(line) {
                match word {
                    "{" => {
                        if let Some(function) = open.last_mut().filter(|function| !function.body) {
                            function.body = true;
                            function.depth = depth;
                        }
                        depth += 1;
                    }
                    "}" => {
                        depth = depth.saturating_sub(1);
                        if let Some(function) = open.pop_if(|last| last.body && last.depth == depth) {
                            // The line of the closing brace is not code.
                            found.push((function.name, function.start, function.lines.saturating_sub(1)));
                        }
                    }
                    // A declaration without a body; a `;` inside brackets belongs to an array type.
                    ";" => {
                        open.pop_if(|last| !last.body && last.brackets == 0);
                    }
                    "[" | "]" => {
                        if let Some(function) = open.last_mut().filter(|function| !function.body) {
                            function.brackets += if word == "[" { 1 } else { -1 };
                        }
                    }
                    name if previous == "fn" && is_name(name) => {
                        open.push(Function {
                            name: name.to_owned(),
                            start: number + 1,
                            ..Function::default()
                        });
                    }
                    _ => {}
                }
                previous = word;
            }
        }
        found
    }
}

#[derive(Default)]
struct Function {
    name: String,
    start: usize,
    depth: usize,
    lines: usize,
    brackets: i32,
    body: bool,
}

fn is_name(word: &str) -> bool {
    word.chars().next().is_some_and(|letter| letter.is_ascii_alphabetic() || letter == '_')
}

/// The names and the single signs of a line of blanked code.
pub fn words(line: &str) -> Vec<&str> {
    let mut found = Vec::new();
    let mut rest = line.trim_start();
    while let Some(first) = rest.chars().next() {
        let inside = |letter: char| letter.is_alphanumeric() || letter == '_';
        let length = if inside(first) {
            rest.find(|letter| !inside(letter)).unwrap_or(rest.len())
        } else {
            first.len_utf8()
        };
        let (word, after) = rest.split_at(length);
        found.push(word);
        rest = after.trim_start();
    }
    found
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Code,
    Line,
    Block(u32),
    Text,
    Raw(usize),
}

/// Replaces comments and the insides of literals by spaces; line ends stay.
fn blank(text: &str) -> String {
    let letters = text.chars().collect::<Vec<_>>();
    let at = |index: usize| letters.get(index).copied().unwrap_or('\0');
    let mut code = String::with_capacity(text.len());
    let mut state = State::Code;
    let mut index = 0;
    while index < letters.len() {
        let letter = at(index);
        let (next, shown, taken) = match state {
            State::Code => in_code(&letters, index),
            State::Line => (if letter == '\n' { State::Code } else { State::Line }, "", 1),
            State::Block(depth) => match (letter, at(index + 1)) {
                ('*', '/') if depth == 1 => (State::Code, "", 2),
                ('*', '/') => (State::Block(depth - 1), "", 2),
                ('/', '*') => (State::Block(depth + 1), "", 2),
                _ => (state, "", 1),
            },
            State::Text => match letter {
                '\\' => (State::Text, "", 2),
                '"' => (State::Code, "\"", 1),
                _ => (State::Text, "", 1),
            },
            State::Raw(signs) => {
                let ends = letter == '"' && (1..=signs).all(|offset| at(index + offset) == '#');
                if ends { (State::Code, "\"", 1 + signs) } else { (state, "", 1) }
            }
        };
        for offset in 0..taken {
            match at(index + offset) {
                '\n' => code.push('\n'),
                _ if offset < shown.len() => code.push_str(shown),
                other if state == State::Code && next == State::Code => code.push(other),
                _ => code.push(' '),
            }
        }
        state = next;
        index += taken;
    }
    code
}

/// What starts at `index`: the next state, what is shown instead, and how many letters that takes.
fn in_code(letters: &[char], index: usize) -> (State, &'static str, usize) {
    let at = |index: usize| letters.get(index).copied().unwrap_or('\0');
    let after_name = index.checked_sub(1).is_some_and(|before| {
        let letter = at(before);
        letter.is_alphanumeric() || letter == '_'
    });
    match (at(index), at(index + 1)) {
        ('/', '/') => (State::Line, "", 2),
        ('/', '*') => (State::Block(1), "", 2),
        ('"', _) => (State::Text, "\"", 1),
        ('r', '#' | '"') if !after_name => raw(letters, index, 1),
        ('b' | 'c', 'r') if !after_name && matches!(at(index + 2), '#' | '"') => raw(letters, index, 2),
        // A letter in quotes, not a lifetime.
        ('\'', '\\') => {
            let length = (2..14).find(|offset| *offset > 2 && at(index + offset) == '\'').unwrap_or(2);
            (State::Code, "''''''''''''''", length + 1)
        }
        ('\'', _) if at(index + 2) == '\'' => (State::Code, "'''", 3),
        _ => (State::Code, "", 1),
    }
}

fn raw(letters: &[char], index: usize, prefix: usize) -> (State, &'static str, usize) {
    let at = |index: usize| letters.get(index).copied().unwrap_or('\0');
    let signs = (0..).take_while(|offset| at(index + prefix + offset) == '#').count();
    if at(index + prefix + signs) == '"' {
        (State::Raw(signs), "\"", prefix + signs + 1)
    } else {
        (State::Code, "", 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn functions(text: &str) -> Vec<(String, usize, usize)> {
        Source::new("a.rs", text.to_owned()).functions()
    }

    #[test]
    fn braces_in_literals_and_comments_mean_nothing() {
        let text =
            "fn a() {\n    let x = \"}\"; // }\n    let y = '}';\n    let z = r#\"}\"}\"#;\n    /* } */\n}\n";
        assert_eq!(functions(text), [("a".to_owned(), 1, 3)]);
    }

    #[test]
    fn escapes_and_lifetimes_are_told_apart() {
        let text = "fn a<'a>(x: &'a str) -> char {\n    let q = '\\'';\n    let n = '\\u{7d}';\n    q\n}\nfn b() {}\n";
        assert_eq!(functions(text), [("a".to_owned(), 1, 3), ("b".to_owned(), 6, 0)]);
    }

    #[test]
    fn nested_functions_and_declarations_are_found() {
        let text = "trait T {\n    fn no_body(&self, x: [u8; 4]);\n    fn outer() {\n        fn inner() {\n            1;\n        }\n        2;\n    }\n}\n";
        assert_eq!(functions(text), [("inner".to_owned(), 4, 1), ("outer".to_owned(), 3, 4)]);
    }

    #[test]
    fn blanking_keeps_the_lines() {
        let text = "a\n/* b\nc */ d\n\"e\nf\" g\n";
        let code = blank(text);
        assert_eq!(code.lines().count(), text.lines().count());
        assert_eq!(code.split_whitespace().collect::<Vec<_>>(), ["a", "d", "\"", "\"", "g"]);
    }

    #[test]
    fn tests_at_the_end_are_not_shipped() {
        let source = Source::new("a.rs", "a\nb\n#[cfg(test)]\nmod tests {}\n".to_owned());
        assert_eq!(source.shipped().collect::<Vec<_>>(), ["a", "b"]);
    }
}
