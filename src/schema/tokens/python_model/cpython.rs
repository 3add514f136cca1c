//! CPython's own parser and tokenizer, in a process of its own.

use std::cell::RefCell;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use serde_json::{Value, json};

/// Answers a JSON value on each line of stdin: of a list of sources, their trees (null for an error);
/// of one source, its tokens: [kind, text, whether it touches the one before].
const CPYTHON: &str = r#"
import ast, io, json, sys, tokenize
sys.stdin.reconfigure(encoding="utf-8"); sys.stdout.reconfigure(encoding="utf-8")
def tree(source):
    try:
        return ast.dump(ast.parse(source.encode()))
    except Exception:
        return None
def tokens(source):
    end, found = None, []
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        found.append([tokenize.tok_name[token.type], token.string, token.start == end])
        end = token.end
    return found
for line in sys.stdin:
    asked = json.loads(line)
    answer = tokens(asked) if isinstance(asked, str) else [tree(source) for source in asked]
    print(json.dumps(answer), flush=True)
"#;

/// CPython, waiting for questions.
pub struct CPython {
    child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
}

/// What CPython says of two sources.
#[derive(Debug, PartialEq)]
pub enum Verdict {
    Same,
    Different,
    /// Neither can be read.
    Nonsense,
}

impl CPython {
    /// One process for a test. Without Python the test fails: it must not pass by not running.
    pub fn start() -> RefCell<Self> {
        let mut child = Command::new("/usr/bin/python3")
            .args(["-W", "ignore", "-c", CPYTHON])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("this test needs CPython as /usr/bin/python3: its own parser is the model");
        let stdin = child.stdin.take().unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        RefCell::new(CPython { child, stdin, stdout })
    }

    fn ask(&mut self, question: &Value) -> Value {
        writeln!(self.stdin, "{question}").unwrap();
        let mut answer = String::new();
        self.stdout.read_line(&mut answer).unwrap();
        serde_json::from_str(&answer).expect("CPython died")
    }

    pub fn verdict(&mut self, old: &str, new: &str) -> Verdict {
        let trees = self.ask(&json!([old, new]));
        match (&trees[0], &trees[1]) {
            (Value::Null, Value::Null) => Verdict::Nonsense,
            (old, new) if old == new => Verdict::Same,
            _ => Verdict::Different,
        }
    }

    pub fn tokens(&mut self, source: &str) -> Vec<Token> {
        let kept = |token: &Value| !["COMMENT", "NL", "ENDMARKER"].contains(&token[0].as_str().unwrap());
        let answer = self.ask(&json!(source));
        let tokens = answer.as_array().unwrap().iter().filter(|token| kept(token));
        tokens
            .map(|token| Token {
                kind: token[0].as_str().unwrap().to_owned(),
                text: token[1].as_str().unwrap().to_owned(),
                touches: token[2].as_bool().unwrap(),
            })
            .collect()
    }
}

impl Drop for CPython {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[derive(Clone, Debug, PartialEq)]
pub struct Token {
    pub kind: String,
    pub text: String,
    pub touches: bool,
}
