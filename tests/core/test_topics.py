"""Topics: golden shards, a round trip for every row of the table, and what is not one of ours."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from paho.mqtt.client import topic_matches_sub

from manway.errors import DecodeRejected
from manway.topics import (
    TOPICS,
    Address,
    TopicRow,
    api_filters,
    device_filters,
    device_topic,
    gateway_filters,
    parse,
    root,
    shard,
    signer_filters,
)

names = st.from_regex(r"[a-z0-9-]{1,32}", fullmatch=True)


def instance(row: TopicRow, site: str = "demo", device: str = "gas-1") -> str:
    return root(site) + row.below_root.replace("{device}", device)


@pytest.mark.parametrize(("site", "digits"), [("demo", "32"), ("sz-0001", "34"), ("s1", "48"), ("hongkou-07", "01")])
def test_a_site_has_the_shard_it_was_provisioned_with(site: str, digits: str) -> None:
    assert shard(site) == digits
    assert root(site) == f"manway/1/{digits}/{site}/"


@given(site=names, device=names, name=st.sampled_from(["gas", "state", "cmd", "up/hello", "down/grant"]))
def test_a_device_topic_parses_to_what_built_it(site: str, device: str, name: str) -> None:
    assert parse(device_topic(site, device, name)) == Address(site, device, name)


@pytest.mark.parametrize("row", TOPICS, ids=lambda row: row.below_root)
def test_every_row_of_the_table_parses(row: TopicRow) -> None:
    address = parse(instance(row))
    assert address.site == "demo"
    assert (f"dev/{address.device}/" if address.device else "") + address.name == row.below_root.replace("{device}", "gas-1")


@pytest.mark.parametrize("row", TOPICS, ids=lambda row: row.below_root)
def test_the_filters_of_a_reader_match_its_rows_and_no_others(row: TopicRow) -> None:
    readers = {
        "gateway": gateway_filters("demo"),
        "api": api_filters("demo"),
        "signer": signer_filters("demo"),
        "device": device_filters("demo", "gas-1"),
    }
    subscribed = {name for name, filters in readers.items() if any(topic_matches_sub(f, instance(row)) for f in filters)}
    assert subscribed == {"lock": {"device"}, "simulator": set()}.get(row.reader, set(row.reader.split(", ")))


def test_no_command_is_retained_and_every_row_has_a_quality_of_service_below_two() -> None:
    assert [row.below_root for row in TOPICS if row.retain and ("cmd" in row.below_root or "down/" in row.below_root)] == []
    assert {row.qos for row in TOPICS} == {0, 1}


@pytest.mark.parametrize(
    ("topic", "reason"),
    [
        ("", "not a topic of wire version 1"),
        ("manway/1/32/demo/dev", "not a topic of wire version 1"),
        ("other/1/32/demo/gw/event", "not a topic of wire version 1"),
        ("manway/2/32/demo/gw/event", "not a topic of wire version 1"),
        ("manway/1/33/demo/gw/event", "the shard does not belong to the site"),
        ("manway/1/+/demo/gw/event", "the shard does not belong to the site"),
        ("manway/1/32/Demo/gw/event", "the shard does not belong to the site"),
        ("manway/1/32//gw/event", "the shard does not belong to the site"),
        ("manway/1/32/demo/dev/gas-1", "not a device topic"),
        ("manway/1/32/demo/dev/Gas_1/gas", "not a device topic"),
        ("manway/1/32/demo/dev//gas", "not a device topic"),
        (f"manway/1/32/demo/dev/{'g' * 33}/gas", "not a device topic"),
    ],
)
def test_what_is_not_ours_is_rejected_with_its_topic(topic: str, reason: str) -> None:
    with pytest.raises(DecodeRejected) as caught:
        parse(topic)
    assert caught.value.reason == reason
    assert caught.value.source == topic[:96]


@given(st.text())
def test_no_text_makes_the_parser_raise_anything_else(topic: str) -> None:
    with pytest.raises(DecodeRejected):
        parse(topic)
