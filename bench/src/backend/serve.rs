//! One connection of the backend.

use std::cell::Cell;
use std::future::poll_fn;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use ringgate::sys::buffer::{Buffer, Class};
use ringgate::sys::socket::Socket;

use super::Failure;
use super::answer::{Answer, Kind, Renderer};
use super::behaviour::Behaviour;
use super::request::{Requests, Step};
use crate::random::Random;

/// A thread of the backend.
#[derive(Debug)]
pub(super) struct Server {
    behaviour: Arc<Behaviour>,
    renderer: Renderer,
    random: Cell<Random>,
}

/// What becomes of the connection.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum After {
    Continue,
    Close,
}

impl Server {
    pub(super) fn new(behaviour: Arc<Behaviour>, body_bytes: u64, seed: u64) -> Self {
        Self { behaviour, renderer: Renderer::new(body_bytes), random: Cell::new(Random::new(seed)) }
    }

    /// Answers requests until the connection ends.
    pub(super) async fn serve(&self, socket: &Socket) {
        let (mut input, mut output) = (Buffer::new(Class::Small), Buffer::new(Class::Small));
        let mut requests = Requests::default();
        loop {
            let received = if output.is_empty() {
                let (received, buffer) = socket.read(input).await;
                input = buffer;
                received
            } else {
                let (received, inward, outward) = write_and_read(socket, output, input).await;
                (input, output) = (inward, outward);
                received
            };
            if !matches!(received, Ok(1..)) {
                return;
            }
            match self.answer_all(socket, &mut requests, &mut input, &mut output).await {
                Ok(After::Continue) => {}
                Ok(After::Close) => {
                    let _ = socket.write_all(output, || ()).await;
                    return;
                }
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
        socket: &Socket,
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
                flush(socket, output).await?;
                monoio::time::sleep(wait).await;
            }
            let Some(answer) = answer else {
                socket.reset_on_close();
                return Err(io::ErrorKind::ConnectionReset.into());
            };
            let mut left = self.renderer.begin(&answer, output);
            while left > 0 {
                flush(socket, output).await?;
                left = self.renderer.append(left, output);
            }
            if !answer.keeps_alive {
                return Ok(After::Close);
            }
            if output.len() > Class::Medium.bytes() {
                flush(socket, output).await?;
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

async fn flush(socket: &Socket, output: &mut Buffer) -> io::Result<()> {
    let (sent, buffer) = socket.write_all(std::mem::take(output), || ()).await;
    *output = buffer;
    output.clear();
    sent
}

/// Sends and receives at once: both are submitted with one call to the kernel.
async fn write_and_read(
    socket: &Socket,
    output: Buffer,
    input: Buffer,
) -> (io::Result<usize>, Buffer, Buffer) {
    let (mut write, mut read) = (pin!(socket.write_all(output, || ())), pin!(socket.read(input)));
    let (mut written, mut received) = (None, None);
    poll_fn(|context| {
        if written.is_none()
            && let Poll::Ready(result) = write.as_mut().poll(context)
        {
            written = Some(result);
        }
        if received.is_none()
            && let Poll::Ready(result) = read.as_mut().poll(context)
        {
            received = Some(result);
        }
        match (written.take(), received.take()) {
            (Some((sent, mut outward)), Some((got, inward))) => {
                outward.clear();
                Poll::Ready((sent.and(got), inward, outward))
            }
            (Some((Err(error), outward)), None) => Poll::Ready((Err(error), Buffer::default(), outward)),
            pending => {
                (written, received) = pending;
                Poll::Pending
            }
        }
    })
    .await
}
