//! The corpus: bodies in the shapes that phones, gateways, test tools and browsers send.

#![allow(dead_code, reason = "each test binary uses its part")]

/// The text with CRLF line ends.
pub(crate) fn crlf(text: &str) -> Vec<u8> {
    text.trim_start().replace('\n', "\r\n").into_bytes()
}

pub(crate) const BODIES: &[(&str, &str)] = &[
    ("desk phone", "
v=0
o=alice 8000 8001 IN IP4 10.1.2.3
s=SIP Call
c=IN IP4 10.1.2.3
t=0 0
m=audio 11780 RTP/AVP 9 0 8 18 101
a=rtpmap:9 G722/8000
a=rtpmap:0 PCMU/8000
a=rtpmap:8 PCMA/8000
a=rtpmap:18 G729/8000
a=fmtp:18 annexb=no
a=rtpmap:101 telephone-event/8000
a=fmtp:101 0-15
a=ptime:20
a=sendrecv
"),
    ("sipp", "
v=0
o=user1 53655765 2353687637 IN IP4 10.0.0.1
s=-
c=IN IP4 10.0.0.1
t=0 0
m=audio 6000 RTP/AVP 0
a=rtpmap:0 PCMU/8000
"),
    ("minimal", "
v=0
o=- 1 1 IN IP4 10.0.0.1
s=-
c=IN IP4 10.0.0.1
t=0 0
m=audio 6000 RTP/AVP 8
"),
    ("asterisk", "
v=0
o=root 1821 1821 IN IP4 10.5.5.5
s=PBX
c=IN IP4 10.5.5.5
t=0 0
m=audio 14466 RTP/AVP 8 0 3 101
a=rtpmap:8 PCMA/8000
a=rtpmap:0 PCMU/8000
a=rtpmap:3 GSM/8000
a=rtpmap:101 telephone-event/8000
a=fmtp:101 0-16
a=ptime:20
a=maxptime:150
a=sendrecv
"),
    ("trunk without rtpmap", "
v=0
o=CARRIER 16264 18299 IN IP4 203.0.113.20
s=sip call
c=IN IP4 203.0.113.20
t=0 0
m=audio 25328 RTP/AVP 18 8 0
b=AS:64
a=sendrecv
"),
    ("media title and bandwidth", "
v=0
o=- 20 20 IN IP4 192.168.1.20
s=call
i=a session title
c=IN IP4 192.168.1.20
b=CT:512
t=0 0
m=audio 5004 RTP/AVP 0 96
i=the audio
b=AS:80
b=RS:0
b=RR:0
a=rtpmap:96 AMR-WB/16000/1
a=fmtp:96 mode-set=0,1,2; octet-align=1
a=maxptime:40
"),
    ("explicit rtcp", "
v=0
o=gw 1 1 IN IP4 10.9.9.9
s=-
c=IN IP4 10.9.9.9
t=0 0
m=audio 49170 RTP/AVP 0
a=rtcp:53020 IN IP4 10.9.9.9
a=rtpmap:0 PCMU/8000
"),
    ("explicit rtcp port only", "
v=0
o=gw 1 1 IN IP4 10.9.9.9
s=-
t=0 0
m=audio 49170 RTP/AVP 0
c=IN IP4 10.9.9.9
a=sendrecv
a=rtcp:53021
"),
    ("mux without ice", "
v=0
o=- 7 7 IN IP4 172.16.0.9
s=-
c=IN IP4 172.16.0.9
t=0 0
m=audio 40000 RTP/AVPF 111 0
a=rtpmap:111 opus/48000/2
a=fmtp:111 useinbandfec=1
a=rtcp-mux
a=rtcp-fb:* nack
"),
    ("sdes", "
v=0
o=- 3 4 IN IP4 10.2.0.1
s=-
c=IN IP4 10.2.0.1
t=0 0
m=audio 18000 RTP/SAVP 0 8
a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:d0RmdmcmVCspeEc3QGZiNWpVLFJhQX1cfHAwJSoj
a=crypto:2 AES_CM_128_HMAC_SHA1_32 inline:NzB4d1BINUAvLEw6UzF3WSJ+PSdFcGdUJShpX1Zj
a=sendrecv
"),
    ("video call", "
v=0
o=bob 2890844527 2890844527 IN IP4 192.168.7.7
s=-
c=IN IP4 192.168.7.7
b=AS:2048
t=0 0
m=audio 7078 RTP/AVP 124 111 110 0 8 101
a=rtpmap:124 opus/48000
a=rtpmap:111 speex/16000
a=rtpmap:110 speex/8000
a=rtpmap:101 telephone-event/48000
m=video 9078 RTP/AVP 103 99
a=rtpmap:103 VP8/90000
a=rtpmap:99 H264/90000
a=fmtp:99 profile-level-id=42801F;packetization-mode=1
"),
    ("video rejected", "
v=0
o=bob 1 2 IN IP4 10.4.4.4
s=-
c=IN IP4 10.4.4.4
t=0 0
m=audio 7078 RTP/AVP 0
m=video 0 RTP/AVP 99
a=rtpmap:99 H264/90000
"),
    ("t38", "
v=0
o=fax 15 16 IN IP4 10.3.3.3
s=-
c=IN IP4 10.3.3.3
t=0 0
m=image 49152 udptl t38
a=T38FaxVersion:0
a=T38MaxBitRate:14400
a=T38FaxRateManagement:transferredTCF
a=T38FaxMaxBuffer:262
a=T38FaxMaxDatagram:176
a=T38FaxUdpEC:t38UDPRedundancy
"),
    ("t38 with audio rejected", "
v=0
o=fax 15 17 IN IP4 10.3.3.3
s=-
t=0 0
m=audio 0 RTP/AVP 8
m=image 49152 UDPTL t38
c=IN IP4 10.3.3.3
a=T38FaxVersion:0
"),
    ("hold sendonly", "
v=0
o=alice 8000 8002 IN IP4 10.1.2.3
s=SIP Call
c=IN IP4 10.1.2.3
t=0 0
m=audio 11780 RTP/AVP 0
a=sendonly
"),
    ("hold inactive in session", "
v=0
o=alice 8000 8002 IN IP4 10.1.2.3
s=SIP Call
c=IN IP4 10.1.2.3
t=0 0
a=inactive
m=audio 11780 RTP/AVP 0
"),
    ("hold zero address", "
v=0
o=alice 8000 8003 IN IP4 10.1.2.3
s=SIP Call
c=IN IP4 0.0.0.0
t=0 0
m=audio 11780 RTP/AVP 0
"),
    ("hold answer recvonly", "
v=0
o=bob 1 3 IN IP4 10.1.2.4
s=-
c=IN IP4 10.1.2.4
t=0 0
m=audio 6000 RTP/AVP 0
a=recvonly
"),
    ("media overrides session", "
v=0
o=- 1 1 IN IP4 10.0.0.9
s=-
c=IN IP4 10.0.0.9
t=0 0
a=inactive
m=audio 1000 RTP/AVP 0
c=IN IP4 10.0.1.1
a=recvonly
m=audio 1002 RTP/AVP 0
"),
    ("ipv6", "
v=0
o=- 5 5 IN IP6 fd00::15
s=-
c=IN IP6 fd00::15
t=0 0
m=audio 20000 RTP/AVP 0 8
a=rtcp:20001 IN IP6 fd00::15
"),
    ("two ports", "
v=0
o=- 5 5 IN IP4 10.0.0.5
s=-
c=IN IP4 10.0.0.5
t=0 0
m=audio 20000/2 RTP/AVP 0
"),
    ("multicast ttl", "
v=0
o=jdoe 2890844526 2890842807 IN IP4 10.47.16.5
s=Seminar
u=http://www.example.com/seminars/sdp.pdf
e=j.doe@example.com (Jane Doe)
c=IN IP4 233.252.0.17/127
t=2873397496 2873404696
a=recvonly
m=audio 49170 RTP/AVP 0
m=video 51372 RTP/AVP 99
a=rtpmap:99 h263-1998/90000
"),
    ("ice phone", "
v=0
o=- 1 1 IN IP4 203.0.113.141
s=-
c=IN IP4 203.0.113.141
t=0 0
a=ice-options:trickle
a=ice-lite
a=ice-pwd:asd88fgpdd777uzjYhagZg
a=ice-ufrag:8hhY
m=audio 45664 RTP/AVP 0
b=RS:0
b=RR:0
a=rtpmap:0 PCMU/8000
a=candidate:1 1 UDP 2130706431 10.0.1.1 8998 typ host
a=candidate:2 1 UDP 1694498815 203.0.113.141 45664 typ srflx raddr 10.0.1.1 rport 8998
a=remote-candidates:1 10.0.1.1 3478
a=end-of-candidates
"),
    ("webrtc", "
v=0
o=- 4611731400430051336 2 IN IP4 127.0.0.1
s=-
t=0 0
a=group:BUNDLE 0 1
a=extmap-allow-mixed
a=msid-semantic: WMS stream
m=audio 9 UDP/TLS/RTP/SAVPF 111 63 9 0 8 13 110 126
c=IN IP4 0.0.0.0
a=rtcp:9 IN IP4 0.0.0.0
a=candidate:1467250027 1 udp 2122260223 192.168.0.196 46243 typ host generation 0
a=ice-ufrag:F7gI
a=ice-pwd:x9cml/YzichV2+XlhiMu8g
a=ice-options:trickle
a=fingerprint:sha-256 D2:FA:0E:C3:22:59:5E:14:95:69:92:3D:13:B4:84:24:2C:C2:A2:C0:3E:FD:34:8E:5E:EA:6F:AF:52:CE:E6:0F
a=setup:actpass
a=mid:0
a=extmap:1 urn:ietf:params:rtp-hdrext:ssrc-audio-level
a=sendrecv
a=msid:stream audio
a=rtcp-mux
a=rtpmap:111 opus/48000/2
a=rtcp-fb:111 transport-cc
a=fmtp:111 minptime=10;useinbandfec=1
a=rtpmap:63 red/48000/2
a=fmtp:63 111/111
a=rtpmap:9 G722/8000
a=rtpmap:0 PCMU/8000
a=rtpmap:8 PCMA/8000
a=rtpmap:13 CN/8000
a=rtpmap:110 telephone-event/48000
a=rtpmap:126 telephone-event/8000
a=ssrc:3570614608 cname:4TOk42mSjXCkVIa6
m=video 9 UDP/TLS/RTP/SAVPF 96 97
c=IN IP4 0.0.0.0
a=rtcp:9 IN IP4 0.0.0.0
a=ice-ufrag:F7gI
a=ice-pwd:x9cml/YzichV2+XlhiMu8g
a=mid:1
a=sendonly
a=rtcp-mux
a=rtcp-rsize
a=rtpmap:96 VP8/90000
a=rtcp-fb:96 nack pli
a=rtpmap:97 rtx/90000
a=fmtp:97 apt=96
"),
];
