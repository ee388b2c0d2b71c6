//! A participant: what it is told on standard input, and what it tells on standard output.

use std::collections::BTreeMap;
use std::error::Error;
use std::net::SocketAddrV4;
use std::time::Duration;

use bytes::Bytes;
use suffuse::authority::{AuthorityLimits, AuthoritySet, Policy};
use suffuse::{
    Audience, CommandError, DeliveryRoute, Departure, Event, GroupEvent, GroupMail, GroupMessageId,
    GroupOptions, GroupRefusal, GroupSendOptions, GroupTarget, Guard, JoinGroupOptions, Participant,
    ParticipantChange, Retention, SwarmId,
};

use crate::Options;
use crate::files::{FILE_BYTES_MAX, Incoming, Outgoing, Said, Saved};
use crate::inbox::{self, Line};
use crate::node::Node;

const NAME_BYTES_MAX: usize = 32;
/// A file goes on while less than this waits to be sent, so that what is said overtakes most of it.
const QUEUED_BYTES_MAX: usize = 65_536;
/// Bytes of messages to everybody that are kept for those who miss some: two files, and what is said meanwhile.
const RETENTION_BYTES_MAX: usize = 3 * FILE_BYTES_MAX as usize;
const RETENTION_AGE_MAX: Duration = Duration::from_secs(120);
/// If nobody answers for so long, there is no such room.
const PATIENCE: Duration = Duration::from_secs(30);
/// Names of participants to remember, of those gone too.
const PEOPLE_MAX: usize = 1_024;

/// Names are one word, so that lines are easy to take apart.
pub(crate) fn parse_name(text: &str) -> Result<String, String> {
    let is_safe = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.".contains(byte);
    let begins = text.bytes().next().is_some_and(|first| first.is_ascii_alphanumeric());
    if begins && text.len() <= NAME_BYTES_MAX && text.as_bytes().iter().all(is_safe) {
        Ok(text.to_owned())
    } else {
        Err(format!("a name is one word of at most {NAME_BYTES_MAX} letters, digits, `-`, `_` and `.`"))
    }
}

pub(crate) fn run(name: &str, options: &Options) -> Result<(), Box<dyn Error>> {
    if let Some(dir) = options.downloads.as_deref().filter(|dir| !dir.is_dir()) {
        return Err(format!("--downloads: no directory {}", dir.display()).into());
    }
    let mut node = Node::open(&options.node)?;
    let mut chat = Chat::begin(name, options, &mut node)?;
    println!("listening {}", node.local);
    let given_up = node.clock.now() + PATIENCE;
    loop {
        chat.send_files(&mut node);
        for event in node.drain() {
            chat.on_event(event, &mut node);
        }
        let gone = chat.stage == Stage::Leaving && chat.outgoing.is_empty();
        if gone || chat.stage == Stage::Out {
            chat.incoming.end()?;
            return node.end(chat.room);
        }
        let joining = chat.stage == Stage::Joining;
        if joining && node.clock.now() >= given_up {
            return Err(format!("nobody has let this one in for {PATIENCE:?}").into());
        }
        let sends = !chat.outgoing.is_empty() && node.engine.queued_bytes() < QUEUED_BYTES_MAX;
        let due = if sends { Some(node.clock.now()) } else { joining.then_some(given_up) };
        for line in node.wait(due)? {
            match line {
                Line::Said(line) => chat.on_line(&line, &mut node),
                Line::End => chat.leave(),
            }
        }
    }
}

struct Chat {
    room: SwarmId,
    local: u64,
    name: Bytes,
    stage: Stage,
    hand_raised: bool,
    people: BTreeMap<u64, Person>,
    /// What was said to one, until it is known what became of it.
    private: BTreeMap<GroupMessageId, String>,
    outgoing: Outgoing,
    incoming: Incoming,
}

/// On the way out.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Joining,
    In,
    /// Until the files are sent.
    Leaving,
    Out,
}

struct Person {
    /// `None` until it says what it is called.
    name: Option<String>,
    hand_raised: bool,
    present: bool,
}

impl Chat {
    fn begin(name: &str, options: &Options, node: &mut Node) -> Result<Self, Box<dyn Error>> {
        let founder = options.founder.or(options.join).unwrap_or(node.local);
        let room = SwarmId::from_name(&format!("chat_udp {founder}"));
        let limits = AuthorityLimits::default();
        let set = AuthoritySet::new(room, inbox::name(founder), Policy::Open, limits);
        let guard = Guard::new().authority(set);
        let retention = Retention::Window { age: RETENTION_AGE_MAX, bytes: RETENTION_BYTES_MAX };
        let now = node.clock.now();
        match options.join {
            Some(contact) => {
                let mut through = JoinGroupOptions::through([inbox::name(contact)]);
                through.retention = retention;
                node.engine.join_group(room, through, guard, now)?;
            }
            None => {
                let mut group = GroupOptions::new();
                group.retention = retention;
                node.engine.create_group(room, group, guard, now)?;
            }
        }
        let local = inbox::name(node.local);
        let own = Person { name: Some(name.to_owned()), hand_raised: false, present: true };
        Ok(Self {
            room,
            local,
            name: Bytes::copy_from_slice(name.as_bytes()),
            stage: Stage::Joining,
            hand_raised: false,
            people: BTreeMap::from([(local, own)]),
            private: BTreeMap::new(),
            outgoing: Outgoing::default(),
            incoming: Incoming::new(options.downloads.clone()),
        })
    }

    // --- what is to be done ---------------------------------------------------------------------------------------

    fn on_line(&mut self, line: &str, node: &mut Node) {
        if let Err(why) = self.command(line, node) {
            println!("error {why}");
        }
    }

    fn command(&mut self, line: &str, node: &mut Node) -> Result<(), String> {
        let (room, now) = (self.room, node.clock.now());
        let engine = &mut node.engine;
        let said = |error: CommandError| error.to_string();
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        match word {
            "/quit" => {
                self.leave();
                Ok(())
            }
            "" if rest.is_empty() => Ok(()),
            _ if self.stage != Stage::In => Err("this one is not in".to_owned()),
            "/roster" => {
                let roster = engine.group_roster(room).map_err(said)?;
                let names: Vec<_> = roster.iter().map(|participant| self.label(participant.peer)).collect();
                println!("roster {}", names.join(" "));
                Ok(())
            }
            "/msg" => {
                let (name, text) = rest.split_once(' ').ok_or("/msg NAME TEXT")?;
                let target = GroupTarget::One(self.find(name)?);
                let payload = Bytes::copy_from_slice(text.as_bytes());
                let sent = engine.send_group(room, target, payload, GroupSendOptions::default(), now);
                self.private.insert(sent.map_err(said)?, text.to_owned());
                Ok(())
            }
            "/share" => engine.claim_screen(room, now).map_err(said),
            "/stop" => engine.release_screen(room, now).map_err(said),
            "/hand" => {
                self.hand_raised = !self.hand_raised;
                let change = ParticipantChange::default().hand_raised(self.hand_raised);
                engine.set_participant(room, change, now).map_err(said)
            }
            "/kick" => engine.kick(room, self.find(rest)?, now).map_err(said),
            "/send" => self.outgoing.add(rest),
            command if command.starts_with('/') => Err(format!("no command {command}")),
            _ => {
                let text = Said::Text(Bytes::copy_from_slice(line.as_bytes()));
                say(&text, self.room, node).map_err(said)
            }
        }
    }

    fn leave(&mut self) {
        // Who is not in yet has nothing to send.
        self.stage = if self.stage == Stage::In { Stage::Leaving } else { Stage::Out };
    }

    fn send_files(&mut self, node: &mut Node) {
        while node.engine.queued_bytes() < QUEUED_BYTES_MAX {
            let Some(next) = self.outgoing.next() else { return };
            if let Err(error) = say(&next, self.room, node) {
                println!("error {error}");
                self.outgoing = Outgoing::default();
            } else if let Some((bytes, path)) = self.outgoing.advance() {
                println!("sent bytes={bytes} {path}");
            }
        }
    }

    // --- what has happened ----------------------------------------------------------------------------------------

    fn on_event(&mut self, event: Event<u64>, node: &mut Node) {
        match event {
            Event::Group { event, .. } => self.on_group_event(event, node),
            Event::Misbehaved { .. } | Event::EventsLost { .. } => println!("error {event:?}"),
            _ => {}
        }
    }

    fn on_group_event(&mut self, event: GroupEvent<u64>, node: &mut Node) {
        match event {
            GroupEvent::Admitted { .. } => {
                let named = ParticipantChange::default().metadata(self.name.clone());
                if let Err(error) = node.engine.set_participant(self.room, named, node.clock.now()) {
                    println!("error {error}");
                }
                if self.stage == Stage::Joining {
                    self.stage = Stage::In;
                }
                println!("joined");
            }
            GroupEvent::Refused { reason } => self.put_out("refused", reason),
            GroupEvent::Removed { reason } => self.put_out("removed", reason),
            GroupEvent::ParticipantJoined { participant }
            | GroupEvent::ParticipantChanged { participant } => {
                self.note(&participant);
            }
            GroupEvent::ParticipantLeft { peer, reason } => {
                if let Some(person) = self.people.get_mut(&peer) {
                    person.present = false;
                    person.hand_raised = false;
                }
                println!("left {} {}", self.label(peer), departure(reason));
                if reason == Departure::Rejoined {
                    self.take(peer, |files| files.give_up(peer).map(|()| None));
                }
            }
            GroupEvent::ScreenChanged { holder } => {
                println!("screen {}", holder.map_or("-".to_owned(), |holder| self.label(holder)));
            }
            GroupEvent::ScreenWon { over } => println!("screen_won {}", self.label(over)),
            GroupEvent::ScreenLost { to } => println!("screen_lost {}", self.label(to)),
            GroupEvent::Message(mail) => self.on_mail(&mail),
            GroupEvent::MessagesLost { from, count, .. } => {
                println!("missed {} count={count}", self.label(from));
                self.take(from, |files| files.give_up(from).map(|()| None));
            }
            GroupEvent::MessageStored { id, to } => {
                let text = self.private.get(&id).map_or("", String::as_str);
                println!("waiting {} {text}", self.label(to));
            }
            GroupEvent::MessageDelivered { id, to, route } => {
                let text = self.private.remove(&id).unwrap_or_default();
                println!("delivered {} via={} {text}", self.label(to), way(route));
            }
            GroupEvent::MessageFailed { id, to } => {
                let text = self.private.remove(&id).unwrap_or_default();
                println!("undelivered {} {text}", self.label(to));
            }
            _ => {}
        }
    }

    fn put_out(&mut self, how: &str, reason: GroupRefusal) {
        let why = match reason {
            GroupRefusal::Full => "full",
            GroupRefusal::ThrownOut => "thrown_out",
            GroupRefusal::Banned => "banned",
        };
        println!("{how} {why}");
        self.stage = Stage::Out;
    }

    /// Somebody is there, or says something else of itself.
    fn note(&mut self, participant: &Participant<u64>) {
        let peer = participant.peer;
        if self.people.len() >= PEOPLE_MAX && !self.people.contains_key(&peer) {
            self.people.retain(|_, person| person.present);
        }
        let name = (!participant.metadata.is_empty()).then(|| {
            let text = String::from_utf8_lossy(&participant.metadata);
            parse_name(&text).unwrap_or_else(|_| inbox::address(peer).to_string())
        });
        let before = self.people.get(&peer).filter(|person| person.present);
        let is_new = name.is_some() && before.is_none_or(|person| person.name.is_none());
        let hand_before = before.is_some_and(|person| person.hand_raised);
        let hand_raised = participant.hand_raised;
        self.people.insert(peer, Person { name, hand_raised, present: true });
        if is_new {
            println!("entered {}", self.label(peer));
        }
        if hand_before != hand_raised {
            println!("hand {} {}", self.label(peer), if hand_raised { "up" } else { "down" });
        }
    }

    fn on_mail(&mut self, mail: &GroupMail<u64>) {
        let from = mail.from;
        if mail.audience != Audience::Everybody {
            return println!("private {} {}", self.label(from), readable(&mail.payload));
        }
        match Said::unpack(&mail.payload) {
            Some(Said::Text(text)) => println!("said {} {}", self.label(from), readable(&text)),
            Some(Said::File(bytes, name)) => {
                println!("offered {} bytes={bytes} {}", self.label(from), readable(&name));
                self.take(from, |files| files.begin(from, bytes, &name));
            }
            Some(Said::Piece(piece)) => self.take(from, |files| files.take(from, &piece)),
            None => println!("error {} sent what this one does not know", self.label(from)),
        }
    }

    fn take(&mut self, from: u64, act: impl FnOnce(&mut Incoming) -> std::io::Result<Option<Saved>>) {
        match act(&mut self.incoming) {
            Ok(None) => {}
            Ok(Some(Saved { bytes, path })) => {
                println!("file {} bytes={bytes} {}", self.label(from), path.display());
            }
            Err(error) => println!("error the file of {}: {error}", self.label(from)),
        }
    }

    // --- names ----------------------------------------------------------------------------------------------------

    /// What somebody is called here: its name, or with its address if another one goes by the same name.
    fn label(&self, peer: u64) -> String {
        let address = inbox::address(peer);
        let Some(name) = self.people.get(&peer).and_then(|person| person.name.as_ref()) else {
            return address.to_string();
        };
        let is_same = |(&other, person): (&u64, &Person)| {
            other != peer && person.present && person.name.as_ref() == Some(name)
        };
        if self.people.iter().any(is_same) { format!("{name}@{address}") } else { name.clone() }
    }

    fn find(&self, name: &str) -> Result<u64, String> {
        if let Ok(address) = name.parse::<SocketAddrV4>() {
            return Ok(inbox::name(address));
        }
        let present = self.people.iter().filter(|(_, person)| person.present);
        let mut gone_last = present.chain(self.people.iter().filter(|(_, person)| !person.present));
        let found = gone_last.find(|&(&peer, _)| peer != self.local && self.label(peer) == name);
        found.map(|(&peer, _)| peer).ok_or_else(|| format!("nobody is called {name}"))
    }
}

fn say(said: &Said, room: SwarmId, node: &mut Node) -> Result<(), CommandError> {
    let now = node.clock.now();
    let options = GroupSendOptions::default();
    node.engine.send_group(room, GroupTarget::Everybody, said.pack(), options, now).map(drop)
}

/// Others must not be able to write lines of their own.
fn readable(text: &[u8]) -> String {
    String::from_utf8_lossy(text).replace(char::is_control, " ")
}

fn way(route: DeliveryRoute) -> &'static str {
    match route {
        DeliveryRoute::Direct => "direct",
        DeliveryRoute::Relayed => "relayed",
        DeliveryRoute::Stored => "stored",
    }
}

fn departure(reason: Departure) -> &'static str {
    match reason {
        Departure::Left => "left",
        Departure::Lost => "lost",
        Departure::Surplus => "surplus",
        Departure::ThrownOut => "thrown_out",
        Departure::Rejoined => "rejoined",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_one_word() {
        for name in ["ann", "bob-2", "x.y_z", "7"] {
            assert_eq!(parse_name(name).as_deref(), Ok(name));
        }
        for name in ["", "-", "a b", "a\n", "é", "a@b", &"x".repeat(33)] {
            assert!(parse_name(name).is_err(), "{name}");
        }
    }

    #[test]
    fn what_others_say_stays_on_its_line() {
        assert_eq!(readable(b"one\nsaid ann two\x1b[2J"), "one said ann two [2J");
    }
}
