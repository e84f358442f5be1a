//! A gateway for mail, as an example: with `lettre`, against a stub of a mail server.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use diptych::process::{ActionRejection, CallFailure, Gateway};
use lettre::{
    Message, message::Mailbox, transport::smtp::client::AsyncSmtpConnection,
    transport::smtp::extension::ClientId,
};
use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
};

#[derive(Serialize, Deserialize)]
struct Mail {
    to: String,
    subject: String,
    text: String,
}

/// Sends mails through a server. A server keeps no keys, so the gateway is not idempotent: a mail
/// that may have been sent is listed, and none is sent twice.
struct Mails {
    server: String,
    from: Mailbox,
}

const WITHIN: Duration = Duration::from_secs(20);

impl Gateway for Mails {
    type Call = Mail;
    type Answer = ();

    async fn send(&self, mail: &Mail, key: &str) -> Result<(), CallFailure> {
        let refused =
            |why: String| CallFailure::Refused(ActionRejection::new(why, serde_json::Value::Null));
        let to: Mailbox =
            mail.to.parse().map_err(|error| refused(format!("{}: {error}", mail.to)))?;
        let message = Message::builder()
            .from(self.from.clone())
            .to(to)
            .subject(&*mail.subject)
            // Programs that read mail find a repetition by this id.
            .message_id(Some(format!("<{key}@{}>", self.from.email.domain())))
            .body(mail.text.clone())
            .map_err(|error| refused(error.to_string()))?;
        let hello = ClientId::Domain(self.from.email.domain().to_owned());
        let connected =
            AsyncSmtpConnection::connect_tokio1(&*self.server, Some(WITHIN), &hello, None, None);
        let not_sent = |reason| CallFailure::NotSent { reason, retry_after: None };
        let mut connection = connected.await.map_err(|error| not_sent(error.to_string()))?;
        let sent = connection.send(message.envelope(), &message.formatted()).await;
        connection.abort().await;
        match sent {
            Ok(_) => Ok(()),
            Err(error) if error.is_permanent() => Err(refused(error.to_string())),
            Err(error) if error.is_transient() => Err(not_sent(error.to_string())),
            Err(error) => Err(CallFailure::Unknown { reason: error.to_string() }),
        }
    }

    /// One mail at a time to one person.
    fn lane(&self, mail: &Mail) -> Option<String> {
        Some(mail.to.clone())
    }
}

/// How the stub treats the end of a mail.
#[derive(Clone, Copy)]
enum End {
    Accepts,
    Refuses,
    Later,
    Vanishes,
}

/// A mail server that keeps the texts of its mails.
async fn server(end: End) -> (Mails, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let server = listener.local_addr().unwrap().to_string();
    let mails = Arc::new(Mutex::new(Vec::new()));
    let kept = mails.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            serve(stream, end, &kept).await;
        }
    });
    let from = "Shop <shop@shop.example>".parse().unwrap();
    (Mails { server, from }, mails)
}

async fn serve(stream: TcpStream, end: End, kept: &Mutex<Vec<String>>) {
    let mut stream = BufReader::new(stream);
    let mut reply = "220 stub\r\n";
    loop {
        if stream.write_all(reply.as_bytes()).await.is_err() {
            return;
        }
        let mut line = String::new();
        if stream.read_line(&mut line).await.unwrap_or(0) == 0 {
            return;
        }
        reply = match line.split([' ', '\r']).next().unwrap() {
            "EHLO" | "MAIL" | "RCPT" => "250 fine\r\n",
            "QUIT" => "221 bye\r\n",
            "DATA" => {
                stream.write_all(b"354 go on\r\n").await.unwrap();
                let mut text = String::new();
                while !text.ends_with("\r\n.\r\n") {
                    stream.read_line(&mut text).await.unwrap();
                }
                kept.lock().unwrap().push(text);
                match end {
                    End::Accepts => "250 taken\r\n",
                    End::Refuses => "554 no such person\r\n",
                    End::Later => "451 come back\r\n",
                    End::Vanishes => return,
                }
            }
            other => panic!("{other}"),
        };
    }
}

async fn sent(mails: &Mails) -> Result<(), CallFailure> {
    let mail = Mail {
        to: "ann@home.example".to_owned(),
        subject: "Paid".to_owned(),
        text: "Thank you".to_owned(),
    };
    mails.send(&mail, "diptych-key").await
}

#[tokio::test]
async fn a_mail_has_the_key_of_its_call_in_its_id() {
    let (mails, kept) = server(End::Accepts).await;
    assert_eq!(sent(&mails).await, Ok(()));
    let kept = kept.lock().unwrap();
    assert!(kept[0].contains("Message-ID: <diptych-key@shop.example>"), "{}", kept[0]);
    assert!(kept[0].contains("Thank you"), "{}", kept[0]);
}

#[tokio::test]
async fn a_mail_server_that_vanishes_after_the_text_leaves_the_mail_unknown() {
    let (mails, kept) = server(End::Vanishes).await;
    let lost = sent(&mails).await;
    assert!(matches!(lost, Err(CallFailure::Unknown { .. })), "{lost:?}");
    assert_eq!(kept.lock().unwrap().len(), 1);
    let (mails, _) = server(End::Refuses).await;
    assert!(matches!(sent(&mails).await, Err(CallFailure::Refused(_))));
    let (mails, _) = server(End::Later).await;
    assert!(matches!(sent(&mails).await, Err(CallFailure::NotSent { .. })));
    let closed = super::server::nothing().await;
    let server = closed.trim_start_matches("http://").to_owned();
    let mails = Mails { server, from: mails.from };
    assert!(matches!(sent(&mails).await, Err(CallFailure::NotSent { .. })));
}
