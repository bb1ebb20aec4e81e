//! What holds for the reliable channels whatever a peer sends; used by the fuzz target and by the test that replays its corpus.

use std::time::{Duration, Instant};

use handfast::proto::channel::{Channels, MAX_MESSAGE, Scope};
use handfast::wire::{DataWriter, DecodeError, Frame, Packet, Reader};

/// Bytes are read as a play: what the peer says, what is sent, and how time passes. An honest end hears all that is written.
pub(crate) fn channels(bytes: &[u8]) {
    let mut stage = Stage::new();
    let mut script = Reader::new(bytes);
    while stage.act(&mut script).is_ok() {}
    let kept = stage.end.into_unacknowledged();
    assert!(kept.iter().map(|(_, packet)| packet.len()).sum::<usize>() <= 2 << 20);
    assert!(kept.iter().all(|(channel, packet)| (1..=127).contains(channel) && packet.len() >= 20));
}

struct Stage {
    now: Instant,
    end: Channels,
    honest: Channels,
}

impl Stage {
    #[expect(clippy::disallowed_methods, reason = "an arbitrary origin for a virtual clock")]
    fn new() -> Self {
        let now = Instant::now();
        Self { now, end: Channels::new(now), honest: Channels::new(now) }
    }

    /// Plays the next line of the script.
    fn act(&mut self, script: &mut Reader<'_>) -> Result<(), DecodeError> {
        match script.u8("line")? % 6 {
            0 => {
                let (channel, sequence) = (script.u8("channel")?, script.u32("sequence")?);
                let ack = script.u32("ack")?;
                let length = usize::from(script.u8("length")?);
                let _ = self.end.on_frame(self.now, channel, sequence, ack, script.take(length, "data")?);
            }
            1 => {
                let (channel, sequence, ack) = (script.u8("channel")?, script.u8("sequence")?, script.u8("ack")?);
                let length = usize::from(script.u16("length")?) % (MAX_MESSAGE + 2);
                let data = vec![script.u8("filling")?; length];
                let _ = self.end.on_frame(self.now, channel, sequence.into(), ack.into(), &data);
            }
            2 => {
                let (channel, length) = (script.u8("channel")?, script.u16("length")?);
                let _ = self.end.send(self.now, channel, &vec![channel; length.into()]);
            }
            3 => {
                let length = script.u16("length")?;
                let _ = self.end.send_control(self.now, &vec![7; length.into()]);
            }
            4 => {
                self.now += Duration::from_millis(script.u8("pause")?.into());
                for end in [&mut self.end, &mut self.honest] {
                    end.handle_timeout(self.now);
                    assert!(end.deadline().is_none_or(|deadline| deadline > self.now), "a timer that stays due");
                }
            }
            _ => while self.end.poll_record().is_some() {},
        }
        transfer(self.now, &mut self.end, &mut self.honest);
        while self.honest.poll_record().is_some() {}
        transfer(self.now, &mut self.honest, &mut self.end);
        Ok(())
    }
}

/// Hands all that `from` has due to `to`.
#[expect(clippy::panic, reason = "a check that fails")]
fn transfer(now: Instant, from: &mut Channels, to: &mut Channels) {
    for packets in 0.. {
        assert!(packets < 20_000, "there is no end to it");
        let mut buffer = [0; 1198];
        let mut writer = DataWriter::new(&mut buffer);
        if !from.fill(now, &mut writer, Scope::All) {
            break;
        }
        let length = writer.finish();
        let Ok(Packet::Data(frames)) = Packet::decode(&buffer[..length]) else { panic!("no data packet") };
        for frame in frames {
            let Ok(Frame::ReliableData { channel, sequence, ack, data }) = frame else { panic!("{frame:?}") };
            let _ = to.on_frame(now, channel, sequence, ack, data);
        }
    }
    assert!(!from.has_due(now, Scope::All), "nothing was written, so nothing may be due");
}
