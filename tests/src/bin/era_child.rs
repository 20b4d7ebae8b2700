//! An MCP server on standard input and output of one era alone: `--era legacy` or `--era modern`.

use std::{
    io::{BufRead as _, Write as _},
    sync::Arc,
};

use portcullis_tests::era::{Server, Wire};
use tokio::sync::mpsc;

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let modern = std::env::args().any(|argument| argument == "modern");
    let server = Arc::new(Server::new(modern));
    let (out, mut lines) = mpsc::unbounded_channel::<serde_json::Value>();
    std::thread::spawn(move || {
        while let Some(line) = lines.blocking_recv() {
            let mut stdout = std::io::stdout().lock();
            if writeln!(stdout, "{line}").and_then(|()| stdout.flush()).is_err() {
                std::process::exit(0);
            }
        }
    });
    let (to, mut input) = mpsc::unbounded_channel();
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            let _ = to.send(line);
        }
    });
    if !modern {
        server.changes(out.clone(), serde_json::json!({}));
    }
    while let Some(line) = input.recv().await {
        let Ok(message) = serde_json::from_str(&line) else { continue };
        let (server, out) = (Arc::clone(&server), out.clone());
        if message_is_listener(&message) {
            server.changes(out.clone(), message.clone());
        }
        tokio::spawn(async move { server.take(Wire::Stdio, message, out).await });
    }
}

fn message_is_listener(message: &serde_json::Value) -> bool {
    message.get("method").is_some_and(|method| method == "subscriptions/listen")
}
