//! Fetches a page of metrics now and then from a trainer on this machine.

use std::io;
use std::net::Ipv4Addr;
use std::time::Duration;

use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::sync::mpsc::{Receiver, channel};
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval, timeout};

/// How often the page is fetched.
const INTERVAL: Duration = Duration::from_secs(1);

/// How long fetching it may take.
const LIMIT: Duration = Duration::from_secs(5);

/// The largest page that is read, in bytes.
const MAX_PAGE: usize = 1024 * 1024;

/// Why there is no page.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nobody listens: the trainer has not come to it yet, or has ended.
    #[error("nobody listens there")]
    Refused,
    /// The connection failed.
    #[error("{0}")]
    Connection(#[source] io::Error),
    /// The answer is none.
    #[error("the answer cannot be read: {0}")]
    Answer(String),
    /// The answer is another one than a page.
    #[error("the answer is {0}")]
    Status(http::StatusCode),
    /// No answer, or not all of it, in time.
    #[error("there is no whole answer within {} s", LIMIT.as_secs())]
    Slow,
    /// The page is too large.
    #[error("the page is larger than {} KiB", MAX_PAGE / 1024)]
    Large,
}

/// Fetches a page once a second, for as long as this lives.
#[derive(Debug)]
pub struct Scraper {
    pages: Receiver<Result<String, Error>>,
    task: JoinHandle<()>,
}

impl Scraper {
    /// Begins to fetch `path` from 127.0.0.1 at `port`. Must be called in a tokio runtime.
    pub fn start(port: u16, path: &str) -> Scraper {
        let (sender, pages) = channel(4);
        let path = path.to_owned();
        let task = tokio::spawn(async move {
            let mut tick = interval(INTERVAL);
            tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                tick.tick().await;
                let page = timeout(LIMIT, fetch(port, &path)).await.unwrap_or(Err(Error::Slow));
                if sender.send(page).await.is_err() {
                    return;
                }
            }
        });
        Scraper { pages, task }
    }

    /// The next page that was fetched, or why there is none; None where nothing is waiting.
    pub fn next(&mut self) -> Option<Result<String, Error>> {
        self.pages.try_recv().ok()
    }
}

impl Drop for Scraper {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Fetches a page from 127.0.0.1, over a connection of its own.
async fn fetch(port: u16, path: &str) -> Result<String, Error> {
    let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.map_err(|error| match error.kind() {
        io::ErrorKind::ConnectionRefused => Error::Refused,
        _ => Error::Connection(error),
    })?;
    let answer = |error: hyper::Error| Error::Answer(error.to_string());
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(answer)?;
    let request = http::Request::get(path)
        .header(http::header::HOST, format!("127.0.0.1:{port}"))
        .header(http::header::ACCEPT, "text/plain;version=0.0.4")
        .header(http::header::CONNECTION, "close")
        .body(Empty::<Bytes>::new())
        .map_err(|error| Error::Answer(error.to_string()))?;
    let exchange = async {
        let response = sender.send_request(request).await.map_err(answer)?;
        if !response.status().is_success() {
            return Err(Error::Status(response.status()));
        }
        let body = Limited::new(response.into_body(), MAX_PAGE).collect().await;
        let body = body.map_err(|error| match error.downcast::<hyper::Error>() {
            Ok(error) => answer(*error),
            Err(_) => Error::Large,
        })?;
        Ok(String::from_utf8_lossy(&body.to_bytes()).into_owned())
    };
    // The connection does its work while it is awaited; when it ends first, the exchange is told.
    let mut exchange = std::pin::pin!(exchange);
    tokio::select! {
        biased;
        page = &mut exchange => page,
        _ = connection => exchange.await,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    /// What is fetched from a server that answers so.
    async fn answered(answer: Vec<u8>) -> Result<String, Error> {
        let server = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let port = server.local_addr().unwrap().port();
        let serve = tokio::spawn(async move {
            let (mut stream, _) = server.accept().await.unwrap();
            let mut request = vec![0; 4096];
            let length = stream.read(&mut request).await.unwrap();
            let _ = stream.write_all(&answer).await;
            String::from_utf8_lossy(&request[..length]).into_owned()
        });
        let page = fetch(port, "/metrics").await;
        let request = serve.await.unwrap().to_lowercase();
        assert!(request.starts_with("get /metrics http/1.1\r\n"), "{request}");
        assert!(request.contains(&format!("host: 127.0.0.1:{port}\r\n")), "{request}");
        page
    }

    #[tokio::test]
    async fn a_page_is_fetched_with_a_length_in_chunks_or_to_the_end_of_the_connection() {
        let answers = [
            "HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\nloss 1\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nlos\r\n4\r\ns 1\n\r\n0\r\n\r\n",
            "HTTP/1.0 200 OK\r\nServer: BaseHTTP/0.6 Python/3.11\r\n\r\nloss 1\n",
        ];
        for answer in answers {
            assert_eq!(answered(answer.into()).await.unwrap(), "loss 1\n", "{answer}");
        }
    }

    #[tokio::test]
    async fn what_is_no_page_is_told() {
        let large = ["HTTP/1.1 200 OK\r\n\r\n".as_bytes(), &vec![b'x'; MAX_PAGE + 1]].concat();
        assert!(matches!(answered(large).await, Err(Error::Large)));
        let missing = answered("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n".into()).await.unwrap_err();
        assert_eq!(missing.to_string(), "the answer is 404 Not Found");
        let none = answered("SSH-2.0-OpenSSH\r\n".into()).await.unwrap_err();
        assert!(none.to_string().starts_with("the answer cannot be read: "), "{none}");
        let cut = answered("HTTP/1.1 200 OK\r\nContent-Length: 70\r\n\r\nloss 1\n".into()).await.unwrap_err();
        assert!(matches!(cut, Error::Answer(_)), "{cut}");
        let unused = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap().local_addr().unwrap().port();
        assert!(matches!(fetch(unused, "/metrics").await, Err(Error::Refused)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_trainer_that_does_not_answer_is_given_up_and_asked_again() {
        let server = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let mut scraper = Scraper::start(server.local_addr().unwrap().port(), "/metrics");
        let mut connections = Vec::new();
        for _ in 0..2 {
            connections.push(server.accept().await.unwrap());
        }
        assert!(matches!(scraper.next(), Some(Err(Error::Slow))));
    }
}
