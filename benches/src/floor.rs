//! A bare reverse proxy: hyper on both sides, a pool of connections, bodies streamed through, nothing read.
//! What it costs is what any gateway of this kind must cost.

use std::net::SocketAddr;

use anyhow::{Context as _, Result};
use http_body_util::{Either, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::{Request, Response, StatusCode, Uri, header, service::service_fn};
use hyper_util::client::legacy::{Client, connect::HttpConnector};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpListener;

type Pool = Client<HttpConnector, Incoming>;
type Reply = Response<Either<Incoming, Empty<Bytes>>>;

/// Listens on loopback, prints the address and forwards to `upstream` until it is killed.
pub(crate) async fn serve(port: u16, upstream: &str) -> Result<()> {
    let upstream: Uri = upstream.parse().context("the upstream is not a URL")?;
    let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], port))).await?;
    crate::say(&format!("listening {}", listener.local_addr()?))?;
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    let pool: Pool = Client::builder(TokioExecutor::new()).build(connector);
    loop {
        let (stream, _) = listener.accept().await.context("cannot accept")?;
        stream.set_nodelay(true)?;
        let (pool, upstream) = (pool.clone(), upstream.clone());
        let service = service_fn(move |request| forward(pool.clone(), upstream.clone(), request));
        tokio::spawn(
            hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service),
        );
    }
}

async fn forward(pool: Pool, upstream: Uri, mut request: Request<Incoming>) -> Result<Reply, hyper::Error> {
    *request.uri_mut() = upstream;
    request.headers_mut().remove(header::HOST);
    request.headers_mut().remove(header::CONNECTION);
    Ok(match pool.request(request).await {
        Ok(mut response) => {
            response.headers_mut().remove(header::CONNECTION);
            response.map(Either::Left)
        }
        Err(_) => {
            let mut response = Response::new(Either::Right(Empty::new()));
            *response.status_mut() = StatusCode::BAD_GATEWAY;
            response
        }
    })
}
