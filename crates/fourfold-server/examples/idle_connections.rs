//! What an idle connection costs the process, without TLS and with it: `cargo run --release -p fourfold-server --example idle_connections`.
//!
//! Clients are in a process of their own; each follows a stream by SSE in which nothing happens. What is counted is resident memory, the
//! kernel's part not included.

use std::{
    env, fs,
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    path::Path,
    process::{Command, Stdio},
    sync::Arc,
};

use fourfold_engines::memory::MemoryEngine;
use fourfold_server::{Server, Settings, Tls};
use fourfold_stream::{Engine, Relay, Retention};
use tokio_rustls::rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned,
    crypto::aws_lc_rs::default_provider,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};

type Failure = Box<dyn std::error::Error + Send + Sync>;

const CONNECTIONS: usize = 2_000;
/// Opened before what is counted, so that what is made once is there.
const FIRST: usize = 200;

fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    if let [address, rest @ ..] = arguments.as_slice() {
        return client(address.parse()?, rest.first().map(Path::new));
    }
    let dir = tempfile::tempdir()?;
    let (cert, key) = (dir.path().join("cert.pem"), dir.path().join("key.pem"));
    let made = rcgen::generate_simple_self_signed(vec!["localhost".into()])?;
    fs::write(&cert, made.cert.pem())?;
    fs::write(&key, made.signing_key.serialize_pem())?;
    for tls in [None, Some(Tls::load(&cert, &key)?)] {
        let name = if tls.is_some() { "with TLS" } else { "plain" };
        let cert = tls.is_some().then_some(cert.as_path());
        let bytes = measure(tls, cert)?;
        writeln!(std::io::stdout(), "{name}: {bytes} bytes a connection")?;
    }
    Ok(())
}

fn measure(tls: Option<Tls>, cert: Option<&Path>) -> Result<usize, Failure> {
    let (tell, told) = std::sync::mpsc::channel();
    std::thread::spawn(move || -> Result<(), Failure> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let server = Server::bind("127.0.0.1:0".parse()?, Settings { tls, ..Settings::default() }).await?;
            let (relay, shards) = Relay::new(1);
            let engine: Arc<dyn Engine> = Arc::new(MemoryEngine::new(relay, Retention::default()));
            tell.send(server.address()?)?;
            server.run(engine, shards, std::future::pending()).await?;
            Ok(())
        })
    });
    let mut command = Command::new(env::current_exe()?);
    command.arg(told.recv()?.to_string()).args(cert).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn()?;
    let mut said = BufReader::new(child.stdout.take().expect("it is piped")).lines();
    said.next().ok_or("the client has failed")??;
    let before = resident_bytes()?;
    child.stdin.as_mut().expect("it is piped").write_all(b"\n")?;
    said.next().ok_or("the client has failed")??;
    let grown = resident_bytes()?.saturating_sub(before);
    child.kill()?;
    child.wait()?;
    Ok(grown / CONNECTIONS)
}

/// Opens some, says so, waits for a line, and opens the rest.
fn client(address: SocketAddr, cert: Option<&Path>) -> Result<(), Failure> {
    let config = cert.map(trusting).transpose()?;
    let mut held: Vec<Box<dyn Read>> = Vec::new();
    open(address, config.as_ref(), "PUT /v1/stream/s HTTP/1.1\r\ncontent-type: text/plain\r\ncontent-length: 0")?;
    for count in [FIRST, CONNECTIONS] {
        for _ in 0..count {
            held.push(open(address, config.as_ref(), "GET /v1/stream/s?offset=-1&live=sse HTTP/1.1")?);
        }
        writeln!(std::io::stdout(), "{} are open", held.len())?;
        std::io::stdin().read_line(&mut String::new())?;
    }
    Ok(())
}

fn open(address: SocketAddr, config: Option<&Arc<ClientConfig>>, request: &str) -> Result<Box<dyn Read>, Failure> {
    let tcp = TcpStream::connect(address)?;
    let request = format!("{request}\r\nhost: localhost\r\n\r\n");
    let mut stream: Box<dyn Read> = match config {
        None => {
            (&tcp).write_all(request.as_bytes())?;
            Box::new(tcp)
        }
        Some(config) => {
            let connection = ClientConnection::new(Arc::clone(config), ServerName::try_from("localhost")?)?;
            let mut stream = StreamOwned::new(connection, tcp);
            stream.write_all(request.as_bytes())?;
            Box::new(stream)
        }
    };
    if stream.read(&mut [0; 4096])? == 0 {
        return Err("the server has ended the connection".into());
    }
    Ok(stream)
}

fn trusting(cert: &Path) -> Result<Arc<ClientConfig>, Failure> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(cert)?)?;
    let config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Arc::new(config))
}

fn resident_bytes() -> Result<usize, Failure> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).ok_or("Linux tells")?;
    Ok(line.trim().trim_end_matches(" kB").parse::<usize>()? * 1024)
}
