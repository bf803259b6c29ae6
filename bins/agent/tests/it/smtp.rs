//! A real SMTP server, aiosmtpd of Python, on loopback.

use std::{
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, ChildStdin, Command, Stdio},
};

use serde_json::{Value, json};

/// A server that runs, with the folder of what it has taken.
pub struct SmtpServer {
    child: Child,
    _input: ChildStdin,
    port: u16,
    folder: tempfile::TempDir,
}

impl SmtpServer {
    pub fn start() -> Self {
        let python = std::env::var("TEST_SMTP_PYTHON").expect("run it under tests/with-smtp.sh");
        let folder = tempfile::tempdir().unwrap();
        let mut child = Command::new(python)
            .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/smtp/server.py"))
            .arg(folder.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let output = child.stdout.take().unwrap();
        BufReader::new(output).read_line(&mut line).unwrap();
        Self {
            _input: child.stdin.take().unwrap(),
            port: line.trim().parse().expect("the server prints its port"),
            child,
            folder,
        }
    }

    /// A purpose that sends `mail.j2` by this server to the address of a template.
    pub fn purpose(&self, to: &str) -> Value {
        json!({"handler": "email", "host": "localhost", "port": self.port, "tls": "none",
            "from": "Shop <news@shop.example>", "to": to, "subject": "Your digest", "text": "mail.j2"})
    }

    /// The e-mails that it has taken.
    pub fn taken(&self) -> Vec<String> {
        let path = |number: usize, kind: &str| self.folder.path().join(format!("{number}.{kind}"));
        let numbers = (0..).take_while(|number| path(*number, "json").exists());
        numbers
            .map(|number| std::fs::read_to_string(path(number, "eml")).unwrap())
            .collect()
    }
}

impl Drop for SmtpServer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
