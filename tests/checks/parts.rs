//! What holds for the parts of large packets; used by the fuzz target and by the test that replays its corpus.

use std::time::{Duration, Instant};

use handfast::base::Ecn;
use handfast::envelope::Splitter;
use handfast::proto::channel::parts::Reassembly;
use handfast::wire::{DecodeError, Frame, Reader};

/// Bytes are read as parts and pauses; then a packet that is cut comes together again, whatever is left of the rest.
#[expect(clippy::panic, reason = "a check that fails")]
pub(crate) fn parts(bytes: &[u8]) {
    #[expect(clippy::disallowed_methods, reason = "an arbitrary origin for a virtual clock")]
    let mut now = Instant::now();
    let mut reassembly = Reassembly::new();
    let mut script = Reader::new(bytes);
    while act(&mut now, &mut reassembly, &mut script).is_ok() {}

    now += Duration::from_secs(2);
    reassembly.handle_timeout(now);
    assert_eq!(reassembly.deadline(), None);
    let limit = bytes.len().div_ceil(64).max(1185);
    let Some(cut) = Splitter::default().cut(128, bytes, limit) else { return };
    let mut whole = None;
    for frame in cut.collect::<Vec<_>>().into_iter().rev() {
        let Frame::Part { number, index, count, data, .. } = frame else { panic!("{frame:?}") };
        assert_eq!(whole, None, "nothing is missing before the last part");
        assert!(data.len() <= limit);
        whole = reassembly.on_part(now, number, index, count, data, Ecn::Ect0).unwrap_or_default();
    }
    assert_eq!(whole, Some((bytes.to_vec(), Ecn::Ect0)));
}

fn act(now: &mut Instant, reassembly: &mut Reassembly, script: &mut Reader<'_>) -> Result<(), DecodeError> {
    *now += Duration::from_millis(script.u8("pause")?.into());
    let number = script.u8("number")?;
    let (index, count) = (script.u8("index")?, script.u8("count")?);
    let data = vec![index; script.u16("length")?.into()];
    if let Ok(Some((packet, _))) = reassembly.on_part(*now, number.into(), index, count, &data, Ecn::NotEct) {
        assert!((2..=65535).contains(&packet.len()));
        assert!(packet.is_sorted(), "the parts stand in order");
    }
    assert!(reassembly.deadline().is_none_or(|deadline| deadline > *now), "a timer that stays due");
    Ok(())
}
