"""Examples that vendors publish, in their documentation or their SDKs' tests, pass; with one bit off they do not."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace

import pytest

from ingest.providers import PRESETS
from ingest.verify.base import Incoming, Site, Verified, headers_of
from tests.vendors.vendor import Delivery

PAGERDUTY_BODY = (
    '{"event":{"id":"01BWDWL3NYY7LUFPZCC28QUCMK","event_type":"incident.priority_updated","resource_type":"in'
    'cident","occurred_at":"2021-04-26T17:36:27.458Z","agent":{"html_url":"https://acme.pagerduty.com/users/P'
    'LH1HKV","id":"PLH1HKV","self":"https://api.pagerduty.com/users/PLH1HKV","summary":"Tenex Engineer","type'
    '":"user_reference"},"client":null,"data":{"id":"PGR0VU2","type":"incident","self":"https://api.pagerduty'
    '.com/incidents/PGR0VU2","html_url":"https://acme.pagerduty.com/incidents/PGR0VU2","number":2,"status":"t'
    'riggered","title":"A little bump in the road","service":{"html_url":"https://acme.pagerduty.com/services'
    '/PF9KMXH","id":"PF9KMXH","self":"https://api.pagerduty.com/services/PF9KMXH","summary":"API Service","ty'
    'pe":"service_reference"},"assignees":[{"html_url":"https://acme.pagerduty.com/users/PTUXL6G","id":"PTUXL'
    '6G","self":"https://api.pagerduty.com/users/PTUXL6G","summary":"User 123","type":"user_reference"}],"esc'
    'alation_policy":{"html_url":"https://acme.pagerduty.com/escalation_policies/PUS0KTE","id":"PUS0KTE","sel'
    'f":"https://api.pagerduty.com/escalation_policies/PUS0KTE","summary":"Default","type":"escalation_policy'
    '_reference"},"teams":[{"html_url":"https://acme.pagerduty.com/teams/PFCVPS0","id":"PFCVPS0","self":"http'
    's://api.pagerduty.com/teams/PFCVPS0","summary":"Engineering","type":"team_reference"}],"priority":{"html'
    '_url":"https://acme.pagerduty.com/account/incident_priorities","id":"PSO75BM","self":"https://api.pagerd'
    'uty.com/priorities/PSO75BM","summary":"P1","type":"priority_reference"},"urgency":"high","conference_bri'
    'dge":{"conference_number":1000,"conference_url":"https://example.com"},"resolve_reason":null}}}'
)

SLACK_BODY = (
    "token=xyzz0WbapA4vBCDEFasx0q6G&team_id=T1DC2JH3J&team_domain=testteamnow&channel_id=G8PSS9T3V"
    "&channel_name=foobar&user_id=U2CERLKJA&user_name=roadrunner&command=%2Fwebhook-collect&text="
    "&response_url=https%3A%2F%2Fhooks.slack.com%2Fcommands%2FT1DC2JH3J%2F397700885554%2F96rGlfmibIGlgcZRskXaIFfN"
    "&trigger_id=398738663015.47445629121.803a0bc887a14d10d2c447fce8b6703c"
)
TWILIO_BODY = "CallSid=CA1234567890ABCDE&Caller=%2B14158675310&Digits=1234&From=%2B14158675310&To=%2B18005551212"
SENDGRID_BODY = (
    '[{"email":"hello@world.com","event":"dropped","reason":"Bounced Address",'
    '"sg_event_id":"ZHJvcC0xMDk5NDkxOS1MUnpYbF9OSFN0T0doUTRrb2ZTbV9BLTA",'
    '"sg_message_id":"LRzXl_NHStOGhQ4kofSm_A.filterdrecv-p3mdw1-756b745b58-kmzbl-18-5F5FC76C-9.0",'
    '"smtp-id":"<LRzXl_NHStOGhQ4kofSm_A@ismtpd0039p1iad1.sendgrid.net>","timestamp":1600112492}]\r\n'
)
ADYEN_BODY = json.dumps(
    {
        "live": "false",
        "notificationItems": [
            {
                "NotificationRequestItem": {
                    "additionalData": {"hmacSignature": "coqCmt/IZ4E3CzPvMY8zTjQVL5hYJUiBRg8UU+iCWo0="},
                    "amount": {"value": 1130, "currency": "EUR"},
                    "pspReference": "7914073381342284",
                    "eventCode": "AUTHORISATION",
                    "eventDate": "2019-05-06T17:15:34.121+02:00",
                    "merchantAccountCode": "TestMerchant",
                    "operations": ["CANCEL", "CAPTURE", "REFUND"],
                    "merchantReference": "TestPayment-1407325143704",
                    "paymentMethod": "visa",
                    "success": "true",
                }
            }
        ],
    }
)
CHARGED = "https://example.com/webhook"


@dataclass(frozen=True)
class Example:
    """What a vendor says a delivery looks like. `now` is a time at which it is fresh."""

    preset: str
    source: str
    secret: str
    delivery: Delivery
    now: float = 0.0


EXAMPLES = [
    Example(
        "github",
        "docs.github.com, Validating webhook deliveries: Testing the webhook payload validation",
        "It's a Secret to Everybody",
        Delivery(
            (
                (
                    "X-Hub-Signature-256",
                    "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17",
                ),
            ),
            b"Hello, World!",
        ),
    ),
    Example(
        "bitbucket",
        "support.atlassian.com, Manage webhooks: Test the signature",
        "It's a Secret to Everybody",
        Delivery(
            (("X-Hub-Signature", "sha256=a4771c39fbe90f317c7824e83ddef3caae9cb3d976c214ace1f2937e133263c9"),),
            b"Hello World!",
        ),
    ),
    Example(
        "square",
        "developer.squareup.com, Validate event notifications",
        "asdf1234",
        Delivery(
            (("X-Square-HmacSha256-Signature", "2kRE5qRU2tR+tBGlDwMEw2avJ7QM4ikPYD/PJ3bd9Og="),),
            b'{"hello":"world"}',
            CHARGED,
        ),
    ),
    Example(
        "paddle",
        "the test of the verifier of Paddle's Python SDK: several h1, the last of which holds",
        "pdl_ntf_01hbpjmytsa32fhr36nqgc3kgb_WvRO0eL4Bj9rgYYIBZY6wZhG4EHy9jzh",
        Delivery(
            (
                (
                    "Paddle-Signature",
                    "ts=1696195954;h1=dummy;h1=d96299976a6eb066f484d7fde011ac56fc32b38fc9940bc419d6e537fdc6ef02",
                ),
            ),
            b"hello-world",
        ),
        now=1696195954.0,
    ),
    Example(
        "adyen",
        "docs.adyen.com, Verify HMAC signatures; the tests of Adyen's libraries",
        "44782DEF547AAA06C910C43932B1EB0C71FC68D9D0C057550C48EC2ACF6BA056",
        Delivery((), ADYEN_BODY.encode()),
    ),
    Example(
        "slack",
        "docs.slack.dev, Verifying requests from Slack",
        "8f742231b10e8888abcd99yyyzzz85a5",
        Delivery(
            (
                ("X-Slack-Request-Timestamp", "1531420618"),
                ("X-Slack-Signature", "v0=a2114d57b48eac39b9ad189dd8316235a7b4a8d21a10bd27519666489c69b503"),
            ),
            SLACK_BODY.encode(),
        ),
        now=1531420618.0,
    ),
    Example(
        "twilio",
        "twilio.com/docs, Webhooks security: the example for form parameters",
        "12345",
        Delivery(
            (
                ("Content-Type", "application/x-www-form-urlencoded"),
                ("X-Twilio-Signature", "L/OH5YylLD5NRKLltdqwSvS0BnU="),
            ),
            TWILIO_BODY.encode(),
            "https://example.com/myapp.php?foo=1&bar=2",
        ),
    ),
    Example(
        "sendgrid",
        "the test of the event webhook of SendGrid's Python SDK",
        "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE83T4O/n84iotIvIW4mdBgQ/7dAfSmpqIM8kF9mN1flpVKS3GRqe62gw+2fNNRaINXvVpiglSI8eNEc6wEA3F+g==",
        Delivery(
            (
                (
                    "X-Twilio-Email-Event-Webhook-Signature",
                    "MEUCIGHQVtGj+Y3LkG9fLcxf3qfI10QysgDWmMOVmxG0u6ZUAiEAyBiXDWzM+uOe5W0JuG+luQAbPIqHh89M15TluLtEZtM=",
                ),
                ("X-Twilio-Email-Event-Webhook-Timestamp", "1600112502"),
            ),
            SENDGRID_BODY.encode(),
        ),
        now=1600112502.0,
    ),
    Example(
        "pagerduty",
        "the test of the verifier of PagerDuty's Go SDK",
        "lDQHScfUeXUKaQRNF+8XIiDKZ7XX3itBAYzwU0TARw8lJqRnkKl2iB1anSb0Z+IK",
        Delivery(
            (
                (
                    "X-PagerDuty-Signature",
                    "v1=0c0b9495b893a39e70d1fea2fe11fbe0a825f88b9f67846f6cc07dd2bc5476cd",
                ),
            ),
            PAGERDUTY_BODY.encode(),
        ),
    ),
    Example(
        "standard",
        "the specification of Standard Webhooks: the example of a request",
        "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        Delivery(
            (
                ("webhook-id", "msg_p5jXN8AQM9LWM0D4loKWxJek"),
                ("webhook-timestamp", "1614265330"),
                ("webhook-signature", "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="),
            ),
            b'{"test": 2432232314}',
        ),
        now=1614265330.0,
    ),
]


def verdict(example: Example, delivery: Delivery) -> bool:
    url, _, query = delivery.url.partition("?")
    verifier = PRESETS[example.preset].scheme.compile([example.secret.encode()], Site(url=url))
    headers = headers_of([(name.lower().encode(), value.encode()) for name, value in delivery.headers])
    return isinstance(verifier(Incoming("POST", "/", query.encode(), headers, delivery.body), example.now), Verified)


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.preset)
def test_what_the_vendor_publishes_passes(example: Example) -> None:
    assert verdict(example, example.delivery), example.source


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.preset)
def test_the_published_example_with_a_bit_changed_does_not(example: Example) -> None:
    """In what is signed of it: for Adyen the amount, elsewhere some character."""
    body = example.delivery.body
    place = body.index(b"1130") if example.preset == "adyen" else len(body) // 2
    changed = body[:place] + bytes([body[place] ^ 1]) + body[place + 1 :]
    assert not verdict(example, replace(example.delivery, body=changed))
