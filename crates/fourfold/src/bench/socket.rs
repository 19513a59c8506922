//! Connections to the server, from as many addresses as they need ports.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream},
    time::Duration,
};

use socket2::{Domain, Socket, Type};

/// On loopback it is there at once or not at all; elsewhere this is patient enough.
const CONNECT_MAX: Duration = Duration::from_secs(10);

/// Connections from one address to one server: Linux hands out 28,232 ports.
const PORTS_AN_ADDRESS: usize = 28_000;

/// Connections to one server.
#[derive(Debug)]
pub(crate) struct Connector {
    to: SocketAddr,
    made: usize,
}

impl Connector {
    /// To the server at `to`, of which so many connections were made before.
    pub(crate) fn new(to: SocketAddr, made: usize) -> Self {
        Self { to, made }
    }

    /// Makes a connection. It is blocking; without delay on what is written.
    pub(crate) fn connect(&mut self) -> io::Result<TcpStream> {
        let socket = Socket::new(Domain::for_address(self.to), Type::STREAM, None)?;
        let source = self.made / PORTS_AN_ADDRESS;
        self.made += 1;
        if let (IpAddr::V4(to), 1..) = (self.to.ip(), source)
            && to.is_loopback()
        {
            let last =
                u8::try_from(source + 1).map_err(|_| io::Error::other("more connections than source addresses"))?;
            socket.bind(&SocketAddr::from((Ipv4Addr::new(127, 0, 0, last), 0)).into())?;
        }
        socket.connect_timeout(&self.to.into(), CONNECT_MAX)?;
        socket.set_tcp_nodelay(true)?;
        Ok(socket.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    #[test]
    fn when_the_ports_of_an_address_are_used_up_the_next_one_is_taken() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let to = listener.local_addr().unwrap();
        for (made, from) in [(0, "127.0.0.1"), (PORTS_AN_ADDRESS - 1, "127.0.0.1"), (PORTS_AN_ADDRESS, "127.0.0.2")] {
            let _connection = Connector::new(to, made).connect().unwrap();
            assert_eq!(listener.accept().unwrap().1.ip().to_string(), from);
        }
    }
}
