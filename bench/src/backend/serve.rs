//! One connection of the backend.

use std::cell::Cell;
use std::io;
use std::sync::Arc;

use ringgate::sys::buffer::{Buffer, Class};
use ringgate::sys::socket::Socket;
use rustls::ServerConfig;

use super::Failure;
use super::answer::{Answer, Kind, Renderer};
use super::behaviour::Behaviour;
use super::peer::Peer;
use super::request::{Requests, Step};
use crate::random::Random;

/// A thread of the backend.
#[derive(Debug)]
pub(super) struct Server {
    behaviour: Arc<Behaviour>,
    renderer: Renderer,
    random: Cell<Random>,
    tls: Option<Arc<ServerConfig>>,
}

/// What becomes of the connection.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum After {
    Continue,
    Close,
}

impl Server {
    pub(super) fn new(
        behaviour: Arc<Behaviour>,
        body_bytes: u64,
        seed: u64,
        tls: Option<Arc<ServerConfig>>,
    ) -> Self {
        Self { behaviour, renderer: Renderer::new(body_bytes), random: Cell::new(Random::new(seed)), tls }
    }

    /// Answers requests until the connection ends.
    pub(super) async fn serve(&self, socket: &Socket) {
        let Ok(mut peer) = Peer::new(socket, self.tls.as_ref()) else { return };
        let (mut input, mut output) = (Buffer::new(Class::Small), Buffer::new(Class::Small));
        let mut requests = Requests::default();
        while peer.exchange(&mut output, &mut input).await {
            match self.answer_all(&mut peer, &mut requests, &mut input, &mut output).await {
                Ok(After::Continue) => {}
                Ok(After::Close) => return peer.finish(&mut output).await,
                Err(_) => return,
            }
            // An upload arrives in larger pieces than heads do.
            if requests.in_content() && input.is_empty() && input.spare() < Class::Large.bytes() {
                input = Buffer::new(Class::Large);
            }
            if !input.make_room(Class::Large.bytes()) {
                return;
            }
        }
    }

    /// Answers all complete requests. What fits is left in `output`, to be sent together with the next receive.
    async fn answer_all(
        &self,
        peer: &mut Peer<'_>,
        requests: &mut Requests,
        input: &mut Buffer,
        output: &mut Buffer,
    ) -> io::Result<After> {
        loop {
            let answer = match requests.next(input) {
                Ok(Step::Answer(answer)) => self.decide(answer),
                Ok(Step::More) => return Ok(After::Continue),
                Ok(Step::Continue) => {
                    output.extend(b"HTTP/1.1 100 Continue\r\n\r\n");
                    return Ok(After::Continue);
                }
                Err(_) => {
                    let kind = Kind::Error("400 Bad Request");
                    Some(Answer { kind, head_only: false, keeps_alive: false })
                }
            };
            if let Some(wait) = self.behaviour.wait() {
                // What is answered already must not wait with it.
                peer.flush(output).await?;
                monoio::time::sleep(wait).await;
            }
            let Some(answer) = answer else {
                peer.reset_on_close();
                return Err(io::ErrorKind::ConnectionReset.into());
            };
            let mut left = self.renderer.begin(&answer, output);
            while left > 0 {
                peer.flush(output).await?;
                left = self.renderer.append(left, output);
            }
            if !answer.keeps_alive {
                return Ok(After::Close);
            }
            if output.len() > Class::Medium.bytes() {
                peer.flush(output).await?;
            }
        }
    }

    /// The answer after chance had its say; `None` is a reset.
    fn decide(&self, answer: Answer) -> Option<Answer> {
        let failure = self.behaviour.failure(|| {
            let mut random = self.random.get();
            let drawn = random.share();
            self.random.set(random);
            drawn
        });
        match failure {
            None => Some(answer),
            Some(Failure::Status) => Some(Answer { kind: Kind::Error("503 Service Unavailable"), ..answer }),
            Some(Failure::Reset) => None,
        }
    }
}
