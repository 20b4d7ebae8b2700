//! Event streams: the rules of the standard, however the bytes are cut.
#![cfg(test)]

use bytes::Bytes;
use portcullis_mcp::sse::{Event, Parser, SseError, encode};
use proptest::prelude::*;

fn parse(chunks: &[&[u8]]) -> Vec<Event> {
    let mut parser = Parser::new(1 << 20);
    let mut events = Vec::new();
    for chunk in chunks {
        parser.push(chunk, |event| events.push(event)).unwrap();
    }
    events
}

fn message(data: &str) -> Event {
    Event::message(Bytes::copy_from_slice(data.as_bytes()))
}

#[test]
fn streams_are_read_as_the_standard_says() {
    let id = |id: &str| Event { id: Some(id.into()), ..Event::default() };
    let comment = |text: &str| Event { comment: Some(text.into()), ..Event::default() };
    let kind = |kind: &str, data: &str| Event { event: Some(kind.into()), ..message(data) };
    for (stream, events) in [
        ("", vec![]),
        ("\n\n\r\n\r", vec![]),
        ("data: a\n\n", vec![message("a")]),
        ("data:a\r\rdata:b\r\n\r\ndata:c\n\r\n", vec![message("a"), message("b"), message("c")]),
        ("\u{feff}data: a\n\n", vec![message("a")]),
        ("\u{feff}\u{feff}data: a\n\n", vec![]),
        ("data: YHOO\ndata: +2\ndata: 10\n\n", vec![message("YHOO\n+2\n10")]),
        ("data\n\ndata\ndata\n\ndata:", vec![message(""), message("\n")]),
        (
            "data:test\n\ndata: test\n\ndata:  test\n\n",
            vec![message("test"), message("test"), message(" test")],
        ),
        (": ping\n", vec![comment("ping")]),
        (":\n\n", vec![comment("")]),
        ("data: a\n: c\n\n", vec![comment("c"), message("a")]),
        ("event: add\ndata: 1\n\n", vec![kind("add", "1")]),
        // A priming event: an id and empty data. It must reach the client, or the client cannot resume.
        ("id: 7\ndata:\n\n", vec![Event { data: Some(Bytes::new()), ..id("7") }]),
        ("id: 7\n\n", vec![id("7")]),
        ("id\n\n", vec![id("")]),
        ("id: a\0b\ndata: x\n\n", vec![message("x")]),
        ("retry: 2500\n\n", vec![Event { retry: Some(2500), ..Event::default() }]),
        ("retry: 25x\ndata: x\n\n", vec![message("x")]),
        ("retry: -1\nretry:\nretry: 99999999999999999999\ndata: x\n\n", vec![message("x")]),
        ("Data: x\nfoo: y\nbar\ndata: z\n\n", vec![message("z")]),
        ("data: never finished\n", vec![]),
    ] {
        assert_eq!(parse(&[stream.as_bytes()]), events, "{stream:?}");
    }
}

#[test]
fn an_empty_chunk_between_cr_and_lf_ends_no_event() {
    assert_eq!(parse(&[b"id: 1\r", b"", b"\ndata: a\r", b"\n\r", b"", b"\n"]).len(), 1);
}

#[test]
fn an_unfinished_event_is_noticed() {
    let partial = |stream: &[u8]| {
        let mut parser = Parser::new(1000);
        parser.push(stream, |_| {}).unwrap();
        parser.is_partial()
    };
    assert!(partial(b"data: a\n") && partial(b"dat") && partial(b"id: 1\n"));
    assert!(!partial(b"") && !partial(b"data: a\n\n") && !partial(b": c\n"));
}

#[test]
fn an_event_has_a_size_limit_and_a_stream_has_none() {
    let mut parser = Parser::new(10);
    for _ in 0..100 {
        parser.push(b"data: 1234\n\n: comment\n", |_| {}).unwrap();
    }
    let mut parser = Parser::new(10);
    assert_eq!(parser.push(b"data: 12345\n", |_| {}), Err(SseError::TooLarge { max: 10 }));
    let mut parser = Parser::new(10);
    let endless = (0..).find(|_| parser.push(b"x", |_| {}).is_err());
    assert_eq!(endless, Some(10));
    let mut parser = Parser::new(10);
    let endless = (0..).find(|_| parser.push(b"data\n", |_| {}).is_err());
    assert_eq!(endless, Some(2));
}

#[test]
fn nothing_in_a_field_breaks_out_of_it() {
    let hostile = "a\nevent: evil\r\n\r\ndata: b";
    let event = Event {
        id: Some(hostile.into()),
        event: Some(hostile.into()),
        retry: Some(1),
        data: Some(Bytes::copy_from_slice(hostile.as_bytes())),
        comment: None,
    };
    let read = parse(&[&encode(&event)]);
    assert_eq!(read.len(), 1);
    assert_eq!(read[0].event.as_deref(), Some("aevent: evildata: b"));
    assert_eq!(read[0].data.as_deref(), Some(&b"a\nevent: evil\n\ndata: b"[..]));
    let comment = Event { comment: Some(hostile.into()), ..Event::default() };
    assert!(parse(&[&encode(&comment)]).iter().all(|event| event.data.is_none() && event.event.is_none()));
}

fn event() -> impl Strategy<Value = Event> {
    let line = "[^\r\n\0\u{feff}]{0,8}";
    (
        prop::option::of(line),
        prop::option::of(line),
        prop::option::of(any::<u64>()),
        prop::option::of("[^\r]{0,20}"),
    )
        .prop_map(|(id, event, retry, data)| Event {
            id,
            event,
            retry,
            data: data.map(Bytes::from),
            comment: None,
        })
        .prop_filter("an empty event is no event", |event| !event.is_empty())
}

proptest! {
    #[test]
    fn what_is_encoded_reads_back(events in prop::collection::vec(event(), 0..6)) {
        let stream: Vec<u8> = events.iter().flat_map(|event| encode(event).to_vec()).collect();
        prop_assert_eq!(parse(&[&stream]), events);
    }

    #[test]
    fn chunks_make_no_difference(
        stream in "(data: ?|id:|event: |retry: |: |[a-z0-9:\u{e9} ]{0,5}|\r\n|\r|\n){0,40}",
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..10),
    ) {
        let whole = parse(&[stream.as_bytes()]);
        let mut cuts: Vec<_> = cuts.iter().map(|cut| cut.index(stream.len() + 1)).collect();
        cuts.extend([0, stream.len()]);
        cuts.sort_unstable();
        let chunks: Vec<_> = cuts.windows(2).map(|pair| &stream.as_bytes()[pair[0]..pair[1]]).collect();
        prop_assert_eq!(&parse(&chunks), &whole);
        let bytes: Vec<_> = stream.as_bytes().chunks(1).collect();
        prop_assert_eq!(&parse(&bytes), &whole);
    }

    #[test]
    fn any_bytes_are_read_within_bounds(chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..10)) {
        let mut parser = Parser::new(64);
        for chunk in chunks {
            if parser.push(&chunk, |event| assert!(event.data.is_none_or(|data| data.len() <= 128))).is_err() {
                break;
            }
        }
    }
}
