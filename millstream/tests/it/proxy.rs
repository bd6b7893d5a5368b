//! Stands between a client and the gateway, and cuts the first connection at a chosen moment. Later connections pass untouched.

use crate::mqtt::{Packet, kind};
use std::io::Write;
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

/// What becomes of the first connection.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Cut {
    /// It ends when the client has published so many messages, none of which reached the gateway.
    BeforeTheGateway(usize),
    /// It ends when the gateway has acknowledged so many messages, of which the client heard nothing.
    BeforeTheClient(usize),
}

/// A proxy; it lives as long as the test's process.
#[derive(Debug)]
pub(crate) struct Proxy {
    pub(crate) address: SocketAddr,
    /// Says that the first connection was cut.
    cut: Receiver<()>,
    /// Lets further connections through.
    open: Sender<()>,
}

impl Proxy {
    pub(crate) fn start(gateway: SocketAddr, rule: Cut) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let (was_cut, cut) = channel();
        let (open, opened) = channel();
        thread::spawn(move || {
            let (client, _) = listener.accept().unwrap();
            cut_connection(&client, &TcpStream::connect(gateway).unwrap(), rule);
            was_cut.send(()).unwrap();
            // The test ended early where this fails.
            if opened.recv().is_err() {
                return;
            }
            for client in listener.incoming() {
                let (Ok(client), Ok(server)) = (client, TcpStream::connect(gateway)) else { continue };
                pass(&client, &server);
                pass(&server, &client);
            }
        });
        Self { address, cut, open }
    }

    /// Waits until the first connection is cut, does something meanwhile, and lets the client connect again.
    pub(crate) fn when_cut(&self, meanwhile: impl FnOnce()) {
        self.cut.recv_timeout(crate::program::DEADLINE).unwrap();
        meanwhile();
        self.open.send(()).unwrap();
    }
}

/// Passes CONNECT and CONNACK, then what the rule lets through.
fn cut_connection(mut client: &TcpStream, mut server: &TcpStream, rule: Cut) {
    let connect = Packet::read(&mut client).unwrap();
    server.write_all(&connect.to_bytes()).unwrap();
    let connack = Packet::read(&mut server).unwrap();
    client.write_all(&connack.to_bytes()).unwrap();
    match rule {
        Cut::BeforeTheGateway(messages) => {
            let publishes = std::iter::from_fn(|| Packet::read(&mut client))
                .filter(|packet| packet.kind() == kind::PUBLISH);
            assert_eq!(publishes.take(messages).count(), messages);
        }
        Cut::BeforeTheClient(messages) => {
            pass(client, server);
            let answers = std::iter::from_fn(|| Packet::read(&mut server))
                .filter(|packet| matches!(packet.kind(), kind::PUBACK | kind::PUBREC));
            assert_eq!(answers.take(messages).count(), messages);
        }
    }
    // The other side may have gone first.
    drop(client.shutdown(Shutdown::Both));
    drop(server.shutdown(Shutdown::Both));
}

/// Copies one direction until it ends.
fn pass(from: &TcpStream, to: &TcpStream) {
    let (mut from, mut to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
    thread::spawn(move || {
        drop(std::io::copy(&mut from, &mut to));
        drop(to.shutdown(Shutdown::Both));
    });
}
