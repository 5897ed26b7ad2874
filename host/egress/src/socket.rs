//! Socket below the layers of a connection.

use super::meter::Metered;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

/// Connection that is layered over a socket of this host.
pub(super) trait HasSocket {
    fn socket(&self) -> &TcpStream;
}

impl HasSocket for Metered<TcpStream> {
    fn socket(&self) -> &TcpStream {
        self.get_ref()
    }
}

impl<T: HasSocket> HasSocket for TokioIo<T> {
    fn socket(&self) -> &TcpStream {
        self.inner().socket()
    }
}
