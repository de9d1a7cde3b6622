//! One HTTP GET, without TLS: whether an operator answers, asked by a pod of an image that has no other program.

use std::time::Duration;

use http::header::HOST;
use http::{Request, Uri};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

const LIMIT: Duration = Duration::from_secs(10);

/// The body of the answer.
///
/// # Errors
/// Why there is none within ten seconds, or the answer where its status tells of no success.
pub fn run(url: &Uri) -> Result<String, String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| format!("the runtime cannot start: {error}"))?;
    match runtime.block_on(async { tokio::time::timeout(LIMIT, get(url)).await }) {
        Ok(answer) => answer.map_err(|error| format!("{url}: {error}")),
        Err(_) => Err(format!("{url}: no answer within {} s", LIMIT.as_secs())),
    }
}

async fn get(url: &Uri) -> Result<String, Box<dyn std::error::Error + Send + Sync>> {
    let (Some("http"), Some(host)) = (url.scheme_str(), url.host()) else {
        return Err("not a URL such as http://sweep-operator:8080/readyz".into());
    };
    let stream = TcpStream::connect((host, url.port_u16().unwrap_or(80))).await?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let path = url.path_and_query().map_or("/", |path| path.as_str());
    let request = Request::get(path).header(HOST, host).body(Empty::<Bytes>::new())?;
    let answered = async {
        let response = sender.send_request(request).await?;
        let status = response.status();
        let body = Limited::new(response.into_body(), 1 << 20).collect().await?.to_bytes();
        let body = String::from_utf8_lossy(&body).into_owned();
        if status.is_success() { Ok(body) } else { Err(format!("{status}: {body}").into()) }
    };
    tokio::select! {
        answer = answered => answer,
        Err(error) = connection => Err(error.into()),
    }
}
