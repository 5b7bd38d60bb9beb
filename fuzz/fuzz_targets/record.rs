//! The record codec: any bytes as a frame, any bytes in a frame with a valid tag, and any record.
//! Nothing panics, a record has exactly one encoding, and a decoded record equals the encoded one.

#![no_main]

use libfuzzer_sys::{
    arbitrary::{Result, Unstructured},
    fuzz_target,
};
use portcullis::{Actor, Expiry, Grant, Network, Rate, Record, Timestamp, fuzzing};
use std::net::IpAddr;

fuzz_target!(|data: &[u8]| {
    // A frame without a valid tag is refused before decoding.
    assert!(fuzzing::decode_record(data).is_err());
    FORMATS.into_iter().for_each(|format| check_encoding(format, data));

    let mut u = Unstructured::new(data);
    let Ok(record) = arbitrary_record(&mut u) else { return };
    let Ok(frame) = fuzzing::encode_record(&record) else { return };
    assert_eq!(fuzzing::decode_record(&frame).ok(), Some(record));
    let (format, mut payload) = (frame[0], frame[1..frame.len() - 16].to_vec());
    assert_eq!(fuzzing::close_record(format, &payload), frame);
    for _ in 0..2 {
        let Ok(at) = u.choose_index(payload.len()) else { return };
        payload[at] = u.arbitrary().unwrap_or(1);
        FORMATS.into_iter().for_each(|format| check_encoding(format, &payload));
    }
});

/// A record without, and with extra fields.
const FORMATS: [u8; 2] = [1, 2];

/// Asserts that this payload, in a frame with a valid tag, is no record or the only encoding of one.
fn check_encoding(format: u8, payload: &[u8]) {
    let frame = fuzzing::close_record(format, payload);
    if let Ok(record) = fuzzing::decode_record(&frame)
        && let Ok(again) = fuzzing::encode_record(&record)
    {
        assert_eq!(again, frame, "two encodings of {record:?}");
    }
}

fn arbitrary_record(u: &mut Unstructured<'_>) -> Result<Record> {
    let mut record = fuzzing::record().expect("some record");
    record.id = fuzzing::key_id(u.arbitrary()?);
    record.active = u.arbitrary()?;
    record.grant = match u.int_in_range(0..=7)? {
        0 => Grant::All,
        _ => {
            let bits = u.int_in_range(0..=(1 << 13) - 1)?;
            fuzzing::grant([bits, 0, 0, 0]).ok().flatten().expect("built-in scopes")
        }
    };
    record.expiry = match u.arbitrary::<Option<u32>>()? {
        Some(secs) => Expiry::At(Timestamp::from_secs(secs.into())),
        None => Expiry::Never,
    };
    record.created_at = Timestamp::from_millis(u.arbitrary()?);
    record.updated_at = Timestamp::from_millis(u.arbitrary()?);
    record.inactive_since = u.arbitrary::<Option<u64>>()?.map(Timestamp::from_millis);
    record.created_by = arbitrary_actor(u)?;
    record.updated_by = arbitrary_actor(u)?;
    record.replaces = u.arbitrary::<Option<u64>>()?.map(fuzzing::key_id);
    record.replaced_by = u.arbitrary::<Option<u64>>()?.map(fuzzing::key_id);
    record.revision = u.arbitrary()?;
    record.name = u.arbitrary()?;
    record.owner = u.arbitrary()?;
    for _ in 0..u.int_in_range(0..=3)? {
        record.metadata.insert(u.arbitrary()?, u.arbitrary()?);
    }
    if u.arbitrary()? {
        let networks: Vec<Network> =
            (0..u.int_in_range(1..=4)?).map(|_| arbitrary_network(u)).collect::<Result<_>>()?;
        record.networks = networks.into_iter().collect();
    }
    if u.arbitrary()? {
        record.rate = Rate::new(u.int_in_range(1..=1_000_000)?, u.int_in_range(1..=86_400)?).ok();
    }
    Ok(record)
}

fn arbitrary_network(u: &mut Unstructured<'_>) -> Result<Network> {
    let (address, bits) = if u.arbitrary()? {
        (IpAddr::from(u.arbitrary::<[u8; 4]>()?), u.int_in_range(0..=32u8)?)
    } else {
        (IpAddr::from(u.arbitrary::<[u8; 16]>()?), u.int_in_range(0..=128u8)?)
    };
    Ok(format!("{address}/{bits}").parse().expect("an address and a length"))
}

fn arbitrary_actor(u: &mut Unstructured<'_>) -> Result<Actor> {
    Ok(match u.int_in_range(0..=2)? {
        0 => Actor::Host,
        1 => Actor::Local(u.arbitrary()?),
        _ => Actor::Key(fuzzing::key_id(u.arbitrary()?)),
    })
}
