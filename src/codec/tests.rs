//! The bytes on disk. A test that must change its bytes needs a new format version.

use super::{record::EXTENDED_RECORD_FORMAT, stored::StoredRecord, *};
use crate::audit_entry::AuditEntry;
use crate::{
    audit_entry::{Act, Attempt, Once},
    digest::Digest,
    digest::Seals,
    id::KeyId,
    network::Network,
    networks::Networks,
    rate::Rate,
    record::{Actor, Change, Expiry, Record},
    scope::{Catalogue, Grant, NumberedScope, Offer, catalogue::API_READ},
    time::Timestamp,
};

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |hex, byte| format!("{hex}{byte:02x}"))
}

/// Removes the blanks that separate the fields in the literals.
fn bytes(golden: &str) -> String {
    golden.replace(' ', "")
}

fn catalogue() -> &'static Catalogue {
    Catalogue::with_preset()
}

fn digest() -> Digest {
    Digest::from_bytes([0xd1; 32])
}

fn full() -> Record {
    Record {
        id: KeyId::from_u64(0x0102_0304_0506_0708),
        name: "Nachtläufer".into(),
        grant: Grant::Scopes(catalogue().set(["api.read", "api.write"]).unwrap()),
        active: false,
        expiry: Expiry::At(Timestamp::from_secs(0x1122_3344)),
        owner: Some("shop".into()),
        metadata: [("floor".into(), "2".into()), ("team".into(), String::new())].into(),
        networks: Networks::ANY,
        imported: None,
        rate: None,
        created_at: Timestamp::from_millis(0x0a0b),
        created_by: Actor::Host,
        updated_at: Timestamp::from_millis(0x0c0d),
        updated_by: Actor::Local(1000),
        inactive_since: Some(Timestamp::from_millis(0x0e0f)),
        replaces: Some(KeyId::from_u64(7)),
        replaced_by: Some(KeyId::from_u64(8)),
        revision: 42,
    }
}

fn root() -> Record {
    Record {
        name: "r".into(),
        grant: Grant::All,
        active: true,
        expiry: Expiry::Never,
        owner: None,
        metadata: crate::record::Metadata::new(),
        updated_by: Actor::Key(KeyId::from_u64(9)),
        inactive_since: None,
        replaces: None,
        replaced_by: None,
        ..full()
    }
}

fn bound() -> Record {
    let networks = ["192.0.2.0/24", "2001:db8::/32"].map(|text| text.parse::<Network>().unwrap());
    Record { networks: networks.into_iter().collect(), ..root() }
}

fn entry(act: Act) -> AuditEntry {
    AuditEntry {
        sequence: 3,
        at: Timestamp::from_millis(0x0a0b),
        actor: Actor::Key(KeyId::from_u64(9)),
        source: Some("192.0.2.7".parse().unwrap()),
        act,
        key: Some(KeyId::from_u64(7)),
        owner: None,
        before: Change::activate(),
        after: Change {
            owner: Some(None),
            expiry: Some(Expiry::Never),
            grant: Some(Grant::All),
            ..Change::deactivate()
        },
        once: None,
        last_once: None,
    }
}

fn mark() -> Mark {
    Mark { store: [7; 16], sequence: 3, records: 2, scopes: 13, sum: [1; 32], head: [2; 32] }
}

#[test]
fn actor_of_a_later_version_is_a_variant_after_the_first_three() {
    for (actor, golden) in [
        (Actor::SecretScanning, "03000000"),
        (Actor::PlainHttp, "04000000"),
        (Actor::Policy, "05000000"),
    ] {
        assert_eq!(hex(&pack(&stored::StoredActor::from(actor)).unwrap()[1..]), golden);
        let (head, seal) = ([3; 32], Seals::derive(None).audit);
        let entry = AuditEntry { actor, ..entry(Act::Update) };
        let (frame, _) = encode_entry(&entry, &head, &seal).unwrap();
        assert_eq!(decode_entry(&frame, 3, &head, &seal, catalogue()).unwrap().0.actor, actor);
    }
}

#[test]
fn record_has_the_documented_bytes() {
    let seal = Seals::derive(None).frame;
    let golden = [
        (
            full(),
            "01 0807060504030201 0c00000000000000 4e616368746cc3a475666572 00000000 \
         c000000000000000 0000000000000000 0000000000000000 0000000000000000 00 01 \
         4433221100000000 01 0400000000000000 73686f70 0200000000000000 \
         0500000000000000 666c6f6f72 0100000000000000 32 0400000000000000 7465616d \
         0000000000000000 0b0a000000000000 00000000 0d0c000000000000 01000000 \
         e8030000 01 0f0e000000000000 01 0700000000000000 01 0800000000000000 \
         2a00000000000000 d76153857853db648e534052eb55d2fc",
        ),
        (
            root(),
            "01 0807060504030201 0100000000000000 72 01000000 01 00 00 0000000000000000 \
         0b0a000000000000 00000000 0d0c000000000000 02000000 0900000000000000 00 00 \
         00 2a00000000000000 330a3f57fd020a9e634cdfd784b156ff",
        ),
    ];
    for (record, golden) in golden {
        let frame = encode_record(&record, digest(), &seal).unwrap();
        assert_eq!(hex(&frame), bytes(golden));
        assert_eq!(decode_record(&frame, digest(), &seal, catalogue()).unwrap().0, record);
    }
}

/// The extra fields of `bound`.
const NETWORKS: &str = "0100000000000000 00000000 0200000000000000 00000000 c0000200 18 \
    01000000 20010db8000000000000000000000000 20";

#[test]
fn record_with_networks_has_the_documented_bytes() {
    let seal = Seals::derive(None).frame;
    let body = |record: &Record| {
        let frame = encode_record(record, digest(), &seal).unwrap();
        assert_eq!(decode_record(&frame, digest(), &seal, catalogue()).unwrap().0, *record);
        hex(frame.split_last_chunk::<TAG>().unwrap().0)
    };
    let plain = body(&root());
    assert_eq!(body(&bound()), format!("02{}{}", &plain[2..], bytes(NETWORKS)));
}

#[test]
fn record_with_a_rate_has_the_documented_bytes() {
    let seal = Seals::derive(None).frame;
    let rate = Rate::new(100, 60).ok();
    let extras = |record: &Record| {
        let frame = encode_record(record, digest(), &seal).unwrap();
        assert_eq!(decode_record(&frame, digest(), &seal, catalogue()).unwrap().0, *record);
        let resident = Resident::of(record).unwrap().bytes;
        assert_eq!(resident_limits(&resident), Some((record.networks.clone(), rate)));
        let plain = pack(&StoredRecord::from(&root())).unwrap().len();
        hex(&frame[plain..frame.len() - TAG])
    };
    let one = "01000000 64000000 3c000000";
    assert_eq!(extras(&Record { rate, ..root() }), bytes(&format!("0100000000000000 {one}")));
    let both = format!("02{}{one}", &NETWORKS[2..]);
    assert_eq!(extras(&Record { rate, ..bound() }), bytes(&both));
}

#[test]
fn record_has_one_encoding_of_its_extra_fields() {
    let seal = Seals::derive(None).frame;
    let plain = pack(&StoredRecord::from(&root())).unwrap();
    let decoded = |extras: &str| {
        let bytes = bytes(extras);
        let byte = |at| u8::from_str_radix(&bytes[at..at + 2], 16).unwrap();
        let list = (0..bytes.len()).step_by(2).map(byte).collect();
        let body = [vec![2], plain[1..].to_vec(), list].concat();
        let frame = close(body, DbKey::Record(digest()), &seal);
        let loaded = load_record(&frame, digest(), &seal, catalogue());
        let decoded = decode_record(&frame, digest(), &seal, catalogue());
        assert_eq!(loaded.is_ok(), decoded.is_ok(), "{extras:?}");
        decoded.map(|(record, _)| record)
    };
    assert_eq!(decoded(NETWORKS).unwrap(), bound());
    let none = "0100000000000000 00000000 0000000000000000";
    let (v4, v6) = ("00000000 c0000200 18", "01000000 20010db8000000000000000000000000 20");
    let two = |one: &str, other: &str| {
        format!("0100000000000000 00000000 0200000000000000 {one} {other}")
    };
    for wrong in [
        "0000000000000000".to_owned(),
        none.to_owned(),
        format!("02{} {}", &NETWORKS[2..], &NETWORKS[16..]),
        "0100000000000000 01000000 00000000 3c000000".to_owned(),
        "0100000000000000 01000000 64000000 81510100".to_owned(),
        format!("0200000000000000 01000000 64000000 3c000000 {}", &NETWORKS[16..]),
        two(v6, v4),
        two(v4, v4),
        two(v4, "00000000 c0000280 19"),
        two("00000000 c0000201 18", v6),
        two("00000000 c0000200 21", v6),
        two(v4, "01000000 00000000000000000000ffffc0000200 78"),
    ] {
        assert!(matches!(decoded(&wrong), Err(Error::Damaged(_))), "{wrong}");
    }
}

#[test]
fn networks_count_towards_the_length_of_a_record() {
    let long = |count: u8, notes: usize| Record {
        metadata: ["a", "b", "c", "d"].map(|name| (name.into(), "x".repeat(notes))).into(),
        networks: (0..count)
            .map(|last| format!("2001:db8::{last}").parse::<Network>().unwrap())
            .collect(),
        ..full()
    };
    assert!(check_length(&long(0, 256), None).is_ok());
    assert!(check_length(&long(16, 256), None).is_err());
    assert!(check_length(&long(16, 200), None).is_ok());
    // A record at the limit is revoked, and takes no networks.
    let revoked = Record { active: false, ..long(0, 256) };
    assert!(check_length(&revoked, Some(&long(0, 256))).is_ok());
    assert!(check_length(&long(16, 256), Some(&long(0, 256))).is_err());
    // Before and after such a change fit into an entry.
    let fields = |record: &Record| record.fields_unlike(None);
    let entry = AuditEntry {
        before: fields(&long(16, 200)),
        after: fields(&Record { name: "n".into(), ..long(15, 201) }),
        ..entry(Act::Update)
    };
    assert!(encode_entry(&entry, &[5; 32], &Seals::derive(None).audit).is_ok());
}

#[test]
fn entry_with_networks_has_the_documented_bytes() {
    let seal = Seals::derive(None).audit;
    let plain = entry(Act::Update);
    let with = |before: Option<Networks>, after: Option<Networks>| {
        let mut entry = plain.clone();
        (entry.before.networks, entry.after.networks) = (before, after);
        let (frame, head) = encode_entry(&entry, &[5; 32], &seal).unwrap();
        let decoded = decode_entry(&frame, 3, &[5; 32], &seal, catalogue()).unwrap();
        assert_eq!(decoded, (entry, head));
        hex(frame.split_last_chunk::<HEAD>().unwrap().0)
    };
    let removed = "0100000000000000 00000000 0000000000000000";
    let (start, end) = ("c0000207", "01000000 01 0700000000000000");
    let golden = format!("{start} 10000000 {NETWORKS} {removed} {end}");
    let body = with(Some(bound().networks), Some(Networks::ANY));
    assert!(body.contains(&bytes(&golden)), "{body}");
    let rated = |before, after| {
        let mut entry = plain.clone();
        (entry.before.rate, entry.after.rate) = (before, after);
        let (frame, head) = encode_entry(&entry, &[5; 32], &seal).unwrap();
        let decoded = decode_entry(&frame, 3, &[5; 32], &seal, catalogue()).unwrap();
        assert_eq!(decoded, (entry, head));
        hex(&frame)
    };
    let rate = "0100000000000000 01000000 01 64000000 3c000000";
    let none = "0100000000000000 01000000 00";
    let body = rated(Some(Rate::new(100, 60).ok()), Some(None));
    assert!(body.contains(&bytes(&format!("{start} 10000000 {rate} {none} {end}"))), "{body}");
    assert!(with(None, None).contains(&bytes(&format!("{start} {end}"))));
    assert!(
        with(None, Some(bound().networks))
            .contains(&bytes(&format!("0000000000000000 {NETWORKS}")))
    );
}

#[test]
fn record_length_limit_counts_fields_that_later_changes_set() {
    let with = |notes: usize| Record {
        metadata: [("n".into(), "x".repeat(256)), ("o".into(), "x".repeat(notes))].into(),
        name: "x".repeat(128),
        owner: Some("x".repeat(128)),
        ..full()
    };
    let length = |record: &Record| {
        encode_record(record, digest(), &Seals::derive(None).frame).unwrap().len()
    };
    // The two actors are 8 and 4 bytes shorter here than a key id would be.
    let most = with(1536 - 12 - length(&with(0)));
    assert_eq!(length(&most), 1536 - 12);
    assert!(check_length(&most, None).is_ok());
    let more = with(1536 - 12 - length(&with(0)) + 1);
    assert!(matches!(check_length(&more, None), Err(Error::Invalid { field: Field::Record, .. })));
    // A record without these fields needs the space for them from the start.
    let bare = |record: &Record| Record {
        expiry: Expiry::Never,
        inactive_since: None,
        replaces: None,
        replaced_by: None,
        ..record.clone()
    };
    assert!(check_length(&bare(&most), None).is_ok());
    assert!(check_length(&bare(&more), None).is_err());
    // A record over the limit can still be revoked, but not grow.
    let revoked = Record { active: false, ..more.clone() };
    assert!(check_length(&revoked, Some(&more)).is_ok());
    assert!(check_length(&revoked, Some(&most)).is_err());
}

#[test]
fn scope_name_has_the_documented_bytes() {
    let seal = Seals::derive(None).frame;
    let scope = NumberedScope::from(API_READ);
    let frame = encode_scope(&scope, 3, &seal).unwrap();
    assert_eq!(
        hex(&frame),
        bytes("01 0800000000000000 6170692e72656164 f9f8bc314ba83917638538b0cd2cfb50")
    );
    assert_eq!(decode_scope(&frame, 3, &seal).unwrap(), scope);
}

#[test]
fn described_scope_has_the_documented_bytes() {
    let seal = Seals::derive(None).frame;
    let of = |description: &str, offer| NumberedScope {
        description: description.to_owned(),
        offer,
        ..NumberedScope::from(API_READ)
    };
    for (offer, number) in [(Offer::ByHost, "00"), (Offer::Always, "01"), (Offer::Never, "02")] {
        let frame = encode_scope(&of("read", offer), 3, &seal).unwrap();
        let body = frame.split_last_chunk::<TAG>().unwrap().0;
        let name = "02 0800000000000000 6170692e72656164 0400000000000000 72656164";
        assert_eq!(hex(body), bytes(&format!("{name} {number}000000")));
        assert_eq!(decode_scope(&frame, 3, &seal).unwrap(), of("read", offer));
    }
    let hidden = encode_scope(&of("", Offer::Never), 3, &seal).unwrap();
    assert_eq!(decode_scope(&hidden, 3, &seal).unwrap(), of("", Offer::Never));
    // A scope with only its name has one encoding, and an unknown one is newer.
    let plain = pack_as(scope::DESCRIBED_SCOPE_FORMAT, &("api.read", "", 0u32)).unwrap();
    let plain = close(plain, DbKey::Scope(3), &seal);
    assert!(matches!(decode_scope(&plain, 3, &seal), Err(Error::Damaged(_))));
    let newer = close(vec![3, 1, 2], DbKey::Scope(3), &seal);
    assert!(matches!(
        decode_scope(&newer, 3, &seal),
        Err(Error::NewerFormat { found: 3, known: 2 })
    ));
}

#[test]
fn last_use_has_the_documented_bytes() {
    let (seal, id) = (Seals::derive(None).frame, KeyId::from_u64(7));
    let frame = encode_use(0x0102_0304, id, &seal).unwrap();
    assert_eq!(hex(&frame), bytes("01 04030201 4c3efe5fd6a5c150c45bc0146184783f"));
    assert_eq!(decode_use(&frame, id, &seal).unwrap(), 0x0102_0304);
    assert!(matches!(decode_use(&frame, KeyId::from_u64(8), &seal), Err(Error::Damaged(_))));
}

#[test]
fn resident_record_decodes_to_the_encoded_record() {
    for record in [full(), root(), bound()] {
        let bytes = Resident::of(&record).unwrap().bytes;
        let Record { id, created_at, active, grant, .. } = record;
        let known = Known { id, created_at, active, grant };
        let head = Head {
            name: &record.name,
            owner: record.owner.as_deref(),
            created_by: record.created_by,
            is_replaced: record.replaced_by.is_some(),
            is_imported: record.imported.is_some(),
        };
        assert_eq!(resident_head(&bytes), Some(head));
        assert_eq!(decode_resident(&bytes, known).as_ref(), Some(&record));
        assert_eq!(resident_limits(&bytes), Some((record.networks, record.rate)));
    }
}

#[test]
fn load_record_agrees_with_decode_record_on_any_payload() {
    let seal = Seals::derive(None).frame;
    let key = DbKey::Record(digest());
    for record in [full(), root(), bound()] {
        let frame = encode_record(&record, digest(), &seal).unwrap();
        let sound = frame.split_last_chunk::<TAG>().unwrap().0.to_vec();
        let flipped = |bit: usize| {
            let mut body = sound.clone();
            body[bit / 8] ^= 1 << (bit % 8);
            body
        };
        let bodies = (8..sound.len() * 8).map(flipped).chain([sound.clone()]);
        for frame in bodies.map(|body| close(body, key, &seal)) {
            let decoded = decode_record(&frame, digest(), &seal, catalogue());
            let loaded = load_record(&frame, digest(), &seal, catalogue());
            let decoded = decoded.map(|(record, hash)| (Resident::of(&record).unwrap(), hash));
            assert_eq!(loaded.ok(), decoded.ok());
        }
    }
}

#[test]
fn meta_record_has_the_documented_bytes() {
    let golden = [
        (
            None,
            "01 00000000000000000000000000000000 07070707070707070707070707070707 \
         0300000000000000 0200000000000000 0d00000000000000 \
         0101010101010101010101010101010101010101010101010101010101010101 \
         0202020202020202020202020202020202020202020202020202020202020202 \
         0b0a000000000000 0300000000000000 70636c 437941c7c58c095c0f8e784f247bd3a7",
        ),
        (
            Some(&b"sixteen bytes or more"[..]),
            "01 3b2d377f47047218519622df908bfc6f 07070707070707070707070707070707 \
         0300000000000000 0200000000000000 0d00000000000000 \
         0101010101010101010101010101010101010101010101010101010101010101 \
         0202020202020202020202020202020202020202020202020202020202020202 \
         0b0a000000000000 0300000000000000 70636c b13b6eb8036d31433bcea4797ac8d215",
        ),
    ];
    for (pepper, golden) in golden {
        let seals = Seals::derive(pepper);
        let check = seals.pepper_check;
        let meta = Meta { pepper_check: check, mark: mark(), newest: 0x0a0b, prefix: "pcl".into() };
        let frame = encode_meta(&meta, &seals.meta).unwrap();
        assert_eq!(hex(&frame), bytes(golden));
        assert_eq!(decode_meta(&frame, &seals.meta, check).unwrap(), meta);
    }
}

#[test]
fn audit_entry_has_the_documented_bytes() {
    let seal = Seals::derive(None).audit;
    let refused = Act::Refuse { attempt: Attempt::Verify, reason: "no".into() };
    let golden = [
        (
            Act::Update,
            "01 0300000000000000 0b0a000000000000 02000000 0900000000000000 01 00000000 \
         c0000207 01000000 01 0700000000000000 00 00 0101 00 00 00 00 0101000000 0100 \
         0100 0100 00 \
         3ab02f79e9cd2b98588c58eb9a7e970e727e913bce37113ad080975f7c188a88",
        ),
        (
            refused,
            "01 0300000000000000 0b0a000000000000 02000000 0900000000000000 01 00000000 \
         c0000207 04000000 04000000 0200000000000000 6e6f 01 0700000000000000 00 00 \
         0101 00 00 00 00 0101000000 0100 0100 0100 00 \
         65eefa4e964ca3d60aec724b14f53777a3a03be51556419725d3cd9d690163cd",
        ),
        (
            Act::Rotate { into: KeyId::from_u64(8) },
            "01 0300000000000000 0b0a000000000000 02000000 0900000000000000 01 00000000 \
         c0000207 05000000 0800000000000000 01 0700000000000000 00 00 0101 00 00 00 00 \
         0101000000 0100 0100 0100 00 \
         b1feaeabbd4a06a5fe864b2988d14bd1d1e16285d168d5849d50c84d6aa840ce",
        ),
    ];
    for (act, golden) in golden {
        let (frame, head) = encode_entry(&entry(act.clone()), &[5; 32], &seal).unwrap();
        assert_eq!(hex(&frame), bytes(golden));
        let decoded = decode_entry(&frame, 3, &[5; 32], &seal, catalogue()).unwrap();
        assert_eq!(decoded, (entry(act), head));
    }
}

#[test]
fn idempotent_request_has_the_documented_bytes() {
    let seal = Seals::derive(None).audit;
    let once = Once { request: [0x0a; 16], payload: [0x0b; 16] };
    let golden = [
        (
            Act::Create,
            "06000000 0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a 0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b 01",
        ),
        (
            Act::Rotate { into: KeyId::from_u64(8) },
            "07000000 0800000000000000 0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a \
             0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b 01",
        ),
    ];
    for (act, golden) in golden {
        let entry = AuditEntry { once: Some(once), ..entry(act) };
        let (frame, head) = encode_entry(&entry, &[5; 32], &seal).unwrap();
        assert!(hex(&frame).contains(&bytes(golden)), "{}", hex(&frame));
        let decoded = decode_entry(&frame, 3, &[5; 32], &seal, catalogue()).unwrap();
        assert_eq!(decoded, (entry, head));
    }
}

#[test]
fn link_to_the_last_idempotent_request_has_the_documented_bytes() {
    let seal = Seals::derive(None).audit;
    let linked = |act, once| AuditEntry { once, last_once: Some(0x0102), ..entry(act) };
    let once = Some(Once { request: [0x0a; 16], payload: [0x0b; 16] });
    let golden = [
        (linked(Act::Update, None), "0b000000 0201000000000000 01000000 01"),
        (
            linked(Act::Create, once),
            "0b000000 0201000000000000 06000000 0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a \
             0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b 01",
        ),
    ];
    for (entry, golden) in golden {
        let (frame, head) = encode_entry(&entry, &[5; 32], &seal).unwrap();
        assert!(hex(&frame).contains(&bytes(golden)), "{}", hex(&frame));
        let decoded = decode_entry(&frame, 3, &[5; 32], &seal, catalogue()).unwrap();
        assert_eq!(decoded, (entry, head));
    }
}

#[test]
fn owner_of_the_key_has_the_documented_bytes() {
    let seal = Seals::derive(None).audit;
    let owned = |owner: Option<&str>, last_once| AuditEntry {
        owner: Some(owner.map(str::to_owned)),
        last_once,
        ..entry(Act::Update)
    };
    let golden = [
        (owned(Some("shop"), None), "0f000000 01 0400000000000000 73686f70 01000000 01"),
        (owned(None, None), "0f000000 00 01000000 01"),
        (owned(None, Some(2)), "0b000000 0200000000000000 0f000000 00 01000000 01"),
    ];
    for (entry, golden) in golden {
        let (frame, head) = encode_entry(&entry, &[5; 32], &seal).unwrap();
        assert!(hex(&frame).contains(&bytes(golden)), "{}", hex(&frame));
        let decoded = decode_entry(&frame, 3, &[5; 32], &seal, catalogue()).unwrap();
        assert_eq!(decoded, (entry, head));
    }
}

#[test]
fn prune_repair_scopes_and_repeated_refusal_have_the_documented_bytes() {
    let seal = Seals::derive(None).audit;
    let golden = [
        (
            Act::Prune { through: 0x0102, head: [6; 32] },
            format!("08000000 0201000000000000 {} 01", "06".repeat(32)),
        ),
        (
            Act::Repair { head: [6; 32], current: 3, unproved: 4 },
            format!("09000000 {} 0300000000000000 0400000000000000 01", "06".repeat(32)),
        ),
        (
            Act::RefuseRepeated {
                attempt: Attempt::List,
                reason: "no".into(),
                count: 3,
                first: Timestamp::from_millis(4),
                last: Timestamp::from_millis(5),
            },
            "0c000000 01000000 0200000000000000 6e6f 0300000000000000 0400000000000000 \
             0500000000000000 01"
                .into(),
        ),
        (
            Act::Refuse { attempt: Attempt::Prune, reason: String::new() },
            "04000000 06000000 0000000000000000 01".into(),
        ),
        (
            Act::Refuse { attempt: Attempt::ChangeScopes, reason: String::new() },
            "04000000 07000000 0000000000000000 01".into(),
        ),
        (
            Act::SetPolicy { policy: crate::policy::Policy::default(), number: 7 },
            "12000000 07 2600000000000000 31202d202d206f7074696f6e616c202d202d206f7074696f6e616c202d206c69737420302030 01".into(),
        ),
        (
            Act::DeactivateUnused { keys: 7 },
            "13000000 0700000000000000 01".into(),
        ),
        (
            Act::AddScope { scope: API_READ, number: 3, description: "read".into() },
            "0d000000 0800000000000000 6170692e72656164 03 0400000000000000 72656164 01".into(),
        ),
        (
            Act::HideScope { scope: API_READ },
            "0e000000 0800000000000000 6170692e72656164 01".into(),
        ),
    ];
    for (act, golden) in golden {
        let (frame, head) = encode_entry(&entry(act.clone()), &[5; 32], &seal).unwrap();
        assert!(hex(&frame).contains(&bytes(&golden)), "{}", hex(&frame));
        let decoded = decode_entry(&frame, 3, &[5; 32], &seal, catalogue()).unwrap();
        assert_eq!(decoded, (entry(act), head));
    }
}

#[test]
fn probable_id_of_a_damaged_record_is_read() {
    let mut frame = encode_record(&full(), digest(), &Seals::derive(None).frame).unwrap();
    *frame.last_mut().unwrap() ^= 1;
    assert_eq!(probable_id(&frame), Some(full().id));
    assert_eq!((probable_id(&frame[..9]), probable_id(&frame[..8])), (Some(full().id), None));
}

#[test]
fn audit_start_has_the_documented_bytes() {
    let seal = Seals::derive(None).meta;
    let start = AuditStart { through: 0x0102, head: [6; 32], pruned_by: 0x0304 };
    let frame = encode_audit_start(&start, &seal).unwrap();
    let payload = format!("01 0201000000000000 {} 0403000000000000", "06".repeat(32));
    let (body, tag) = frame.split_at(frame.len() - 16);
    assert_eq!(hex(body), bytes(&payload));
    assert_eq!(seal.hash(&[b"f", body])[..16], *tag);
    assert_eq!(decode_audit_start(&frame, &seal).unwrap(), start);
    for bit in 0..frame.len() * 8 {
        let mut flipped = frame.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        assert!(decode_audit_start(&flipped, &seal).is_err(), "{bit}");
    }
}

#[test]
fn database_keys_have_the_documented_bytes() {
    let golden = [
        (DbKey::AuditStart, "66".to_owned()),
        (DbKey::Entry(0x0102), "610000000000000102".to_owned()),
        (DbKey::Record(digest()), format!("6b{}", "d1".repeat(32))),
        (DbKey::Meta, "6d".to_owned()),
        (DbKey::Scope(3), "7303".to_owned()),
        (DbKey::Use(KeyId::from_u64(0x0102)), "750000000000000102".to_owned()),
    ];
    for (key, bytes) in golden {
        assert_eq!(hex(&key.to_bytes()), bytes);
        assert_eq!(DbKey::from_bytes(&key.to_bytes()), Some(key));
    }
}

#[test]
fn wrong_pepper_is_distinguished_from_damage() {
    let (right, wrong) = (Seals::derive(Some(b"sixteen bytes or more")), Seals::derive(None));
    let check = right.pepper_check;
    let meta = Meta { pepper_check: check, mark: mark(), newest: 1, prefix: "pcl".into() };
    let mut frame = encode_meta(&meta, &right.meta).unwrap();
    let read = |frame: &[u8], seals: &Seals| decode_meta(frame, &seals.meta, seals.pepper_check);
    assert!(matches!(read(&frame, &wrong), Err(Error::WrongPepper)));
    *frame.last_mut().unwrap() ^= 1;
    assert!(matches!(read(&frame, &right), Err(Error::Damaged(_))));
}

#[test]
#[cfg(feature = "cluster")]
fn wrong_pepper_is_distinguished_from_damage_in_a_shared_store() {
    let (right, wrong) = (Seals::derive(Some(b"sixteen bytes or more")), Seals::derive(None));
    let check = right.pepper_check;
    let meta = Meta { pepper_check: check, mark: mark(), newest: 1, prefix: "pcl".into() };
    let mut frame = encode_epoch(&meta, &[5; 32], &right.meta).unwrap();
    let read = |frame: &[u8], seals: &Seals| decode_epoch(frame, &seals.meta, seals.pepper_check);
    assert_eq!(read(&frame, &right).unwrap(), (meta, [5; 32]));
    assert!(matches!(read(&frame, &wrong), Err(Error::WrongPepper)));
    *frame.last_mut().unwrap() ^= 1;
    assert!(matches!(read(&frame, &right), Err(Error::Damaged(_))));
}

#[test]
fn longest_audit_entry_has_exactly_the_maximum_length() {
    let seal = Seals::derive(None).audit;
    let longest = (3000..5000).map_while(|length| {
        let refused = Act::Refuse { attempt: Attempt::Verify, reason: "n".repeat(length) };
        Some(encode_entry(&entry(refused), &[5; 32], &seal).ok()?.0.len())
    });
    assert_eq!(longest.last(), Some(MAX_VALUE));
}

#[test]
fn mark_sum_depends_on_the_current_frames_only() {
    let seal = Seals::derive(None).frame;
    let hash = |record: &Record| {
        let frame = encode_record(record, digest(), &seal).unwrap();
        frame_hash(&frame, DbKey::Record(digest()), &seal).unwrap()
    };
    let (one, other, before) = (hash(&full()), hash(&root()), mark());
    let mut mark = before;
    mark.add(one);
    assert_ne!(mark.sum, before.sum);
    mark.add(other);
    mark.subtract(one);
    let mut only = before;
    only.add(other);
    assert_eq!(mark.sum, only.sum);
    assert_ne!(one, other);
}

#[test]
fn any_flipped_bit_of_a_frame_is_detected() {
    let seals = Seals::derive(None);
    let record = encode_record(&full(), digest(), &seals.frame).unwrap();
    let meta = Meta { pepper_check: [0; 16], mark: mark(), newest: 1, prefix: "pcl".into() };
    let meta = encode_meta(&meta, &seals.meta).unwrap();
    let (entry, _) = encode_entry(&entry(Act::Update), &[5; 32], &seals.audit).unwrap();
    let flipped = |frame: &[u8], bit: usize| {
        let mut frame = frame.to_vec();
        frame[bit / 8] ^= 1 << (bit % 8);
        frame
    };
    for bit in 0..record.len() * 8 {
        let frame = flipped(&record, bit);
        let found = decode_record(&frame, digest(), &seals.frame, catalogue());
        assert!(matches!(found, Err(Error::Damaged(_))), "{bit}");
        let found = load_record(&frame, digest(), &seals.frame, catalogue());
        assert!(matches!(found, Err(Error::Damaged(_))), "{bit}");
    }
    for bit in 0..meta.len() * 8 {
        let found = decode_meta(&flipped(&meta, bit), &seals.meta, [0; 16]);
        assert!(matches!(found, Err(Error::Damaged(_) | Error::WrongPepper)), "{bit}");
    }
    for bit in 0..entry.len() * 8 {
        let frame = flipped(&entry, bit);
        let found = decode_entry(&frame, 3, &[5; 32], &seals.audit, catalogue());
        assert!(matches!(found, Err(Error::Damaged(_))), "{bit}");
    }
}

#[test]
fn frame_is_valid_under_its_own_key_only() {
    let seals = Seals::derive(None);
    let frame = encode_record(&full(), digest(), &seals.frame).unwrap();
    let elsewhere = Digest::from_bytes([0xd2; 32]);
    assert!(decode_record(&frame, elsewhere, &seals.frame, catalogue()).is_err());
    let frame = encode_scope(&API_READ.into(), 3, &seals.frame).unwrap();
    assert!(decode_scope(&frame, 4, &seals.frame).is_err());
    let (frame, _) = encode_entry(&entry(Act::Update), &[5; 32], &seals.audit).unwrap();
    assert!(decode_entry(&frame, 3, &[6; 32], &seals.audit, catalogue()).is_err());
    assert!(decode_entry(&frame, 4, &[5; 32], &seals.audit, catalogue()).is_err());
}

#[test]
fn newer_format_is_reported() {
    let seal = Seals::derive(None).frame;
    let key = DbKey::Record(digest());
    let newer = close(vec![EXTENDED_RECORD_FORMAT + 1, 1, 2, 3], key, &seal);
    let found = decode_record(&newer, digest(), &seal, catalogue());
    assert!(matches!(found, Err(Error::NewerFormat { found: 3, known: 2 })));
}
