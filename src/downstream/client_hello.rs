//! Stand-in for the walker until it is merged.
#![allow(missing_docs, reason = "a stand-in")]

pub enum Walk {
    Complete(ClientHello),
    Incomplete,
    Malformed,
    NotTls,
}

pub struct ClientHello {
    pub server_name: Option<String>,
}

pub fn walk(bytes: &[u8]) -> Walk {
    if bytes.first().is_some_and(|first| *first != 22) || bytes.get(1).is_some_and(|second| *second != 3) {
        return Walk::NotTls;
    }
    let mut acceptor = rustls::server::Acceptor::default();
    let mut rest = bytes;
    while !rest.is_empty() {
        if acceptor.read_tls(&mut rest).is_err() {
            return Walk::Malformed;
        }
        match acceptor.accept() {
            Ok(Some(accepted)) => {
                let server_name = accepted.client_hello().server_name().map(str::to_owned);
                return Walk::Complete(ClientHello { server_name });
            }
            Ok(None) => {}
            Err(_) => return Walk::Malformed,
        }
    }
    Walk::Incomplete
}
