//! A small mail server over TCP that takes mail as SMTP says, and fails in the ways that mail servers do.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use mail_parser::{Message, MessageParser, MimeHeaders as _};
use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncWrite, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio_rustls::TlsAcceptor;

use crate::free_port;
use crate::test_app::DEADLINE;

/// What the server does with what comes.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Behaviour {
    /// Takes everything.
    Accept,
    /// Answers this to the command that begins with the first text and holds the second.
    Answer(&'static str, &'static str, &'static str),
    /// Takes the connection and never says a word.
    SayNothing,
    /// Takes a mail and closes the connection without saying so.
    LoseAnswer,
    /// Takes a mail and never says so.
    KeepAnswer,
}

/// How conversations are encrypted.
pub(crate) enum Encryption {
    None,
    StartTls(TlsAcceptor),
    FromTheStart(TlsAcceptor),
}

/// A connection, encrypted or not.
trait Wire: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Wire for T {}

type Stream = BufReader<Box<dyn Wire>>;

/// A mail as it came.
#[derive(Clone, Debug)]
pub(crate) struct Received {
    pub(crate) from: String,
    pub(crate) to: String,
    pub(crate) bytes: Vec<u8>,
}

impl Received {
    pub(crate) fn parsed(&self) -> Message<'_> {
        MessageParser::default().parse(&self.bytes).unwrap()
    }

    pub(crate) fn subject(&self) -> String {
        self.parsed().subject().unwrap().to_owned()
    }

    pub(crate) fn message_id(&self) -> String {
        self.parsed().message_id().unwrap().to_owned()
    }

    pub(crate) fn text(&self) -> String {
        self.parsed().body_text(0).unwrap().into_owned()
    }

    pub(crate) fn html(&self) -> String {
        self.parsed().body_html(0).unwrap().into_owned()
    }

    /// Names and bytes of the files.
    pub(crate) fn files(&self) -> Vec<(String, Vec<u8>)> {
        let message = self.parsed();
        let file = |part: &mail_parser::MessagePart<'_>| {
            let name = part.attachment_name().unwrap_or_default().to_owned();
            (name, part.contents().to_vec())
        };
        message.attachments().map(file).collect()
    }
}

#[derive(Default)]
struct Seen {
    received: Vec<Received>,
    commands: Vec<String>,
    encrypted_commands: Vec<String>,
    connections: usize,
}

struct Shared {
    encryption: Encryption,
    behaviour: Mutex<Behaviour>,
    seen: Mutex<Seen>,
    changed: watch::Sender<()>,
}

pub(crate) struct MailServer {
    shared: Arc<Shared>,
    address: SocketAddr,
    listening: Option<JoinHandle<()>>,
}

impl MailServer {
    pub(crate) async fn start() -> Self {
        Self::start_with(Encryption::None).await
    }

    pub(crate) async fn start_with(encryption: Encryption) -> Self {
        let shared = Arc::new(Shared {
            encryption,
            behaviour: Mutex::new(Behaviour::Accept),
            seen: Mutex::default(),
            changed: watch::channel(()).0,
        });
        // On a port that nobody else takes while it is stopped.
        let listener = free_port::listener();
        listener.set_nonblocking(true).unwrap();
        let listener = TcpListener::from_std(listener).unwrap();
        let address = listener.local_addr().unwrap();
        Self {
            listening: Some(tokio::spawn(listen(listener, Arc::clone(&shared)))),
            shared,
            address,
        }
    }

    pub(crate) fn port(&self) -> u16 {
        self.address.port()
    }

    pub(crate) fn behave(&self, behaviour: Behaviour) {
        *lock(&self.shared.behaviour) = behaviour;
    }

    /// Nobody listens any more, and what is connected is cut.
    pub(crate) async fn stop(&mut self) {
        if let Some(listening) = self.listening.take() {
            listening.abort();
            drop(listening.await);
        }
    }

    pub(crate) async fn start_again(&mut self) {
        let listener = TcpListener::bind(self.address).await.unwrap();
        self.listening = Some(tokio::spawn(listen(listener, Arc::clone(&self.shared))));
    }

    /// What came, by recipient.
    pub(crate) fn received(&self) -> Vec<Received> {
        let mut received = lock(&self.shared.seen).received.clone();
        received.sort_by(|one, other| one.to.cmp(&other.to));
        received
    }

    /// What was said in the clear.
    pub(crate) fn commands(&self) -> Vec<String> {
        lock(&self.shared.seen).commands.clone()
    }

    /// What was said behind the encryption.
    pub(crate) fn encrypted_commands(&self) -> Vec<String> {
        lock(&self.shared.seen).encrypted_commands.clone()
    }

    pub(crate) fn connections(&self) -> usize {
        lock(&self.shared.seen).connections
    }

    /// Waits until so many mails came.
    pub(crate) async fn receives(&self, mails: usize) {
        self.sees("mails", |seen| seen.received.len() >= mails)
            .await;
    }

    /// Waits until somebody is connected.
    pub(crate) async fn is_called(&self) {
        self.sees("a connection", |seen| seen.connections > 0).await;
    }

    async fn sees(&self, what: &str, holds: impl Fn(&Seen) -> bool) {
        let mut changes = self.shared.changed.subscribe();
        let seen = async {
            while !holds(&lock(&self.shared.seen)) {
                changes.changed().await.unwrap();
            }
        };
        let came = tokio::time::timeout(DEADLINE, seen).await;
        assert!(came.is_ok(), "the mail server sees no {what}");
    }
}

impl Drop for MailServer {
    fn drop(&mut self) {
        if let Some(listening) = &self.listening {
            listening.abort();
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn listen(listener: TcpListener, shared: Arc<Shared>) {
    let mut conversations = JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        conversations.spawn(converse(stream, Arc::clone(&shared)));
    }
}

/// One connection; an error is its end.
async fn converse(stream: TcpStream, shared: Arc<Shared>) -> std::io::Result<()> {
    lock(&shared.seen).connections += 1;
    shared.changed.send_replace(());
    if *lock(&shared.behaviour) == Behaviour::SayNothing {
        return forever().await;
    }
    let mut stream: Stream = BufReader::new(Box::new(stream));
    let mut encrypted = false;
    if let Encryption::FromTheStart(acceptor) = &shared.encryption {
        stream = encrypt(stream, acceptor).await?;
        encrypted = true;
    }
    say(&mut stream, "220 test.example ESMTP").await?;
    let (mut from, mut to) = (String::new(), String::new());
    loop {
        let Some(line) = line(&mut stream).await? else {
            return Ok(());
        };
        shared.heard(&line, encrypted);
        let behaviour = lock(&shared.behaviour).clone();
        if let Behaviour::Answer(command, part, answer) = behaviour
            && line.starts_with(command)
            && line.contains(part)
        {
            say(&mut stream, answer).await?;
            continue;
        }
        let answer = match line.split([' ', ':']).next().unwrap_or_default() {
            "EHLO" if matches!(shared.encryption, Encryption::StartTls(_)) && !encrypted => {
                "250-test.example\r\n250 STARTTLS"
            }
            "EHLO" => "250-test.example\r\n250-8BITMIME\r\n250 AUTH PLAIN LOGIN",
            "STARTTLS" if let Encryption::StartTls(acceptor) = &shared.encryption => {
                say(&mut stream, "220 2.0.0 go on").await?;
                stream = encrypt(stream, acceptor).await?;
                encrypted = true;
                continue;
            }
            "AUTH" => "235 2.7.0 welcome",
            "MAIL" => {
                from = address(&line);
                "250 2.1.0 sender"
            }
            "RCPT" => {
                to = address(&line);
                "250 2.1.5 recipient"
            }
            "DATA" => {
                say(&mut stream, "354 go on").await?;
                let bytes = data(&mut stream).await?;
                let (from, to) = (from.clone(), to.clone());
                lock(&shared.seen)
                    .received
                    .push(Received { from, to, bytes });
                shared.changed.send_replace(());
                match behaviour {
                    Behaviour::LoseAnswer => return Ok(()),
                    Behaviour::KeepAnswer => return forever().await,
                    _ => "250 2.0.0 it is ours now",
                }
            }
            "QUIT" => "221 2.0.0 bye",
            _ => "502 5.5.1 what",
        };
        say(&mut stream, answer).await?;
    }
}

impl Shared {
    fn heard(&self, line: &str, encrypted: bool) {
        let mut seen = lock(&self.seen);
        let commands = match encrypted {
            true => &mut seen.encrypted_commands,
            false => &mut seen.commands,
        };
        commands.push(line.to_owned());
    }
}

async fn encrypt(stream: Stream, acceptor: &TlsAcceptor) -> std::io::Result<Stream> {
    let encrypted = acceptor.accept(stream.into_inner()).await?;
    Ok(BufReader::new(Box::new(encrypted)))
}

/// Until the other side goes, or the server stops.
async fn forever() -> std::io::Result<()> {
    tokio::time::sleep(Duration::from_secs(3600)).await;
    Ok(())
}

async fn say(stream: &mut Stream, text: &str) -> std::io::Result<()> {
    stream.write_all(format!("{text}\r\n").as_bytes()).await?;
    stream.flush().await
}

async fn line(stream: &mut Stream) -> std::io::Result<Option<String>> {
    let mut line = String::new();
    let read = stream.read_line(&mut line).await?;
    Ok((read > 0).then(|| line.trim_end().to_owned()))
}

/// Up to the line with a dot; a dot at the start of another line was doubled.
async fn data(stream: &mut Stream) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    loop {
        let mut line = Vec::new();
        if stream.read_until(b'\n', &mut line).await? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        if line == b".\r\n" {
            return Ok(bytes);
        }
        bytes.extend_from_slice(line.strip_prefix(b".").unwrap_or(&line));
    }
}

fn address(line: &str) -> String {
    let (_, rest) = line.split_once('<').unwrap_or(("", line));
    rest.split('>').next().unwrap_or_default().to_owned()
}
