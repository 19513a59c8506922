//! The client's end of a WebSocket: opened, and its refusals and close codes understood.

use std::{fmt::Debug, net::IpAddr};

use futures_util::StreamExt;
use http::header::AUTHORIZATION;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::TlsConnector;
use tokio_tungstenite::{
    WebSocketStream, client_async_with_config,
    tungstenite::{
        Error, Message,
        client::IntoClientRequest,
        protocol::{CloseFrame, WebSocketConfig, frame::coding::CloseCode},
    },
};
use url::Host;

use crate::client::{CONNECT_MAX, Client, SILENCE_MAX, Server};
use crate::failure::{Failure, Problem, checked, refused, retry_after};
use crate::trust;

/// The largest message that is taken: the largest body a server can be set to take, in base64, does not fit; four times
/// the default does.
const MESSAGE_BYTES_MAX: usize = 128 << 20;

/// An open connection.
pub(crate) type Socket = WebSocketStream<Box<dyn Wire>>;

/// A connection to the server, with or without TLS.
pub(crate) trait Wire: AsyncRead + AsyncWrite + Debug + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Debug + Send + Unpin> Wire for S {}

/// Opens the stream from `offset`.
pub(crate) async fn open(client: &Client, offset: &str) -> Result<Socket, Failure> {
    let config =
        WebSocketConfig::default().max_message_size(Some(MESSAGE_BYTES_MAX)).max_frame_size(Some(MESSAGE_BYTES_MAX));
    let mut request = client.websocket_url(offset).into_client_request().map_err(Failure::cut)?;
    if let Some(token) = &client.at().token {
        request.headers_mut().insert(AUTHORIZATION, token.0.clone());
    }
    let opening = async { Ok(client_async_with_config(request, connect(client.at()).await?, Some(config)).await) };
    let late = |_| Err(Failure::cut("the connection was not made in time"));
    match timeout(CONNECT_MAX, opening).await.unwrap_or_else(late)? {
        Ok((socket, _)) => Ok(socket),
        Err(Error::Http(response)) => {
            let status = response.status().as_u16();
            let failure = refused(Problem::new(status, "", ""), retry_after(response.headers()));
            match failure {
                Failure::Refused(_) => Err(explained(client, offset, failure).await),
                passing => Err(passing),
            }
        }
        Err(Error::Io(error)) => Err(Failure::cut(error)),
        Err(error) => Err(Failure::cut(format!("the WebSocket was not opened: {error}"))),
    }
}

async fn connect(server: &Server) -> Result<Box<dyn Wire>, Failure> {
    let port = server.port;
    let socket = match &server.host {
        Host::Domain(name) => TcpStream::connect((name.as_str(), port)).await,
        Host::Ipv4(ip) => TcpStream::connect((IpAddr::from(*ip), port)).await,
        Host::Ipv6(ip) => TcpStream::connect((IpAddr::from(*ip), port)).await,
    };
    let socket = socket.map_err(Failure::cut)?;
    socket.set_nodelay(true).map_err(Failure::cut)?;
    let Some(tls) = &server.tls else { return Ok(Box::new(socket)) };
    let name = fourfold_trust::name(&server.host.to_string()).map_err(|why| Failure::Tls(why.to_string()))?;
    match TlsConnector::from(tls.clone()).connect(name, socket).await {
        Ok(socket) => Ok(Box::new(socket)),
        Err(error) => Err(trust::explained(&error, &server.url).map_or_else(|| Failure::cut(error), Failure::Tls)),
    }
}

/// The refusal of a handshake has no body that could be relied on; a plain read is refused with the same words.
async fn explained(client: &Client, offset: &str, failure: Failure) -> Failure {
    match client.get(&client.read_url(offset, "&limit=1")).send().await {
        Ok(response) => checked(response).await.err().unwrap_or(failure),
        Err(_) => failure,
    }
}

/// The next text message; `None` after a clean close that means the stream's end. Answers pings by itself. Cancel-safe.
///
/// Errors: passing ones if the connection was cut or its close code says that coming back helps.
pub(crate) async fn next_text<S>(socket: &mut S) -> Result<Option<String>, Failure>
where
    S: StreamExt<Item = Result<Message, Error>> + Unpin,
{
    loop {
        let Ok(next) = timeout(SILENCE_MAX, socket.next()).await else {
            return Err(Failure::cut(format!("nothing came for {} s", SILENCE_MAX.as_secs())));
        };
        match next {
            Some(Ok(Message::Text(text))) => return Ok(Some(text.as_str().to_owned())),
            Some(Ok(Message::Close(frame))) => return closed(frame.as_ref()),
            Some(Ok(_)) => {}
            Some(Err(error)) => return Err(Failure::cut(error)),
            None => return Err(Failure::cut("the connection was cut")),
        }
    }
}

/// What a close frame says. Protocol page: "Problems".
fn closed(frame: Option<&CloseFrame>) -> Result<Option<String>, Failure> {
    let Some(frame) = frame else { return Err(Failure::cut("the connection was closed without a reason")) };
    let code = u16::from(frame.code);
    let detail = match frame.code {
        CloseCode::Normal => return Ok(None),
        CloseCode::Size => "a record is larger than the server takes",
        CloseCode::Protocol | CloseCode::Unsupported | CloseCode::Invalid => {
            "the server does not understand this command"
        }
        _ if code == 4404 => "the stream was deleted or has expired",
        _ => return Err(Failure::cut(format!("the server closed the connection ({code} {})", frame.reason))),
    };
    Err(Failure::Refused(Problem::new(code, &frame.reason, detail)))
}
