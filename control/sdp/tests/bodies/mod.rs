//! The corpus: bodies in the shapes that phones, gateways, test tools and browsers send.

#![allow(dead_code, reason = "each test binary uses its part")]

pub(crate) mod oracle;

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
    ("desk phone with srtp offered twice", "
v=0
o=- 20012 20012 IN IP4 192.168.0.77
s=SDP data
c=IN IP4 192.168.0.77
t=0 0
m=audio 11794 RTP/SAVP 0 8 18 9 101
a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:WVNfX19zZW1jdGwgKCkgewkyMjA7fQp9CnVubGVz
a=crypto:2 AES_CM_128_HMAC_SHA1_32 inline:PS1uQCVeeCFCanVmcjkpPywjNWhcYD0mXXtxaVBR
a=rtpmap:0 PCMU/8000
a=rtpmap:8 PCMA/8000
a=rtpmap:18 G729/8000
a=fmtp:18 annexb=no
a=rtpmap:9 G722/8000
a=fmtp:101 0-15
a=rtpmap:101 telephone-event/8000
a=ptime:20
a=sendrecv
"),
    ("desk phone with video", "
v=0
o=Poly 1703500000 1703500001 IN IP4 10.6.0.31
s=Poly IP Phone
c=IN IP4 10.6.0.31
b=AS:512
t=0 0
a=sendrecv
m=audio 2230 RTP/AVP 115 9 102 8 0 18 127
a=rtpmap:115 G7221/32000
a=fmtp:115 bitrate=48000
a=rtpmap:9 G722/8000
a=rtpmap:102 G7221/16000
a=fmtp:102 bitrate=32000
a=rtpmap:8 PCMA/8000
a=rtpmap:0 PCMU/8000
a=rtpmap:18 G729/8000
a=fmtp:18 annexb=no
a=rtpmap:127 telephone-event/8000
m=video 2232 RTP/AVP 109 34
a=rtpmap:109 H264/90000
a=fmtp:109 profile-level-id=42800d; max-mbps=10000
a=rtpmap:34 H263/90000
a=fmtp:34 CIF=1;QCIF=1
"),
    ("softphone with avpf", "
v=0
o=lin 3563 1820 IN IP4 192.168.1.40
s=Talk
c=IN IP4 192.168.1.40
t=0 0
a=rtcp-xr:rcvr-rtt=all:10000 stat-summary=loss,dup,jitt,TTL voip-metrics
a=record:off
m=audio 7160 RTP/AVPF 96 97 98 0 8 18 101 99 100
a=rtpmap:96 opus/48000/2
a=fmtp:96 useinbandfec=1
a=rtpmap:97 speex/16000
a=fmtp:97 vbr=on
a=rtpmap:98 speex/8000
a=fmtp:98 vbr=on
a=fmtp:18 annexb=yes
a=rtpmap:101 telephone-event/48000
a=rtpmap:99 telephone-event/16000
a=rtpmap:100 telephone-event/8000
a=rtcp:7161
a=rtcp-fb:* trr-int 5000
a=rtcp-fb:* ccm tmmbr
a=label:main
"),
    ("webrtc with fingerprint in session and data channel", "
v=0
o=mozilla...THIS_IS_SDPARTA-99.0 5273648391 0 IN IP4 0.0.0.0
s=-
t=0 0
a=fingerprint:sha-256 7B:8B:F0:65:5F:78:E2:51:3B:AC:6F:F3:3F:46:1B:35:DC:B8:5F:64:1A:24:C2:43:F0:A1:58:D0:A1:2C:19:08
a=group:BUNDLE 0 1 2
a=ice-options:trickle
a=msid-semantic:WMS *
m=audio 57103 UDP/TLS/RTP/SAVPF 109 9 0 8 101
c=IN IP4 192.168.9.9
a=candidate:0 1 UDP 2122252543 192.168.9.9 57103 typ host
a=candidate:1 1 TCP 2105524479 192.168.9.9 9 typ host tcptype active
a=sendrecv
a=end-of-candidates
a=extmap:1 urn:ietf:params:rtp-hdrext:ssrc-audio-level
a=extmap:2/recvonly urn:ietf:params:rtp-hdrext:csrc-audio-level
a=extmap:3 urn:ietf:params:rtp-hdrext:sdes:mid
a=fmtp:109 maxplaybackrate=48000;stereo=1;useinbandfec=1
a=fmtp:101 0-15
a=ice-pwd:7dc2c1b8d1a46f5c1d4c9c7a7b1f7f5e
a=ice-ufrag:2d7d3c81
a=mid:0
a=msid:{cb1f} {9a10}
a=rtcp-mux
a=rtpmap:109 opus/48000/2
a=rtpmap:9 G722/8000/1
a=rtpmap:0 PCMU/8000
a=rtpmap:8 PCMA/8000
a=rtpmap:101 telephone-event/8000
a=setup:actpass
a=ssrc:3033010393 cname:{e1c7}
m=video 0 UDP/TLS/RTP/SAVPF 120 124
c=IN IP4 0.0.0.0
a=bundle-only
a=sendrecv
a=extmap:3 urn:ietf:params:rtp-hdrext:sdes:mid
a=fmtp:120 max-fs=12288;max-fr=60
a=fmtp:124 apt=120
a=ice-pwd:7dc2c1b8d1a46f5c1d4c9c7a7b1f7f5e
a=ice-ufrag:2d7d3c81
a=mid:1
a=rtcp-fb:120 nack
a=rtcp-fb:120 nack pli
a=rtcp-mux
a=rtcp-mux-only
a=rtpmap:120 VP8/90000
a=rtpmap:124 rtx/90000
a=setup:actpass
a=ssrc-group:FID 1187033184 2387045013
a=ssrc:2387045013 cname:{e1c7}
a=ssrc:1187033184 cname:{e1c7}
a=ssrc:1187033184 msid:x y
m=application 57103 UDP/DTLS/SCTP webrtc-datachannel
c=IN IP4 192.168.9.9
a=sendrecv
a=ice-pwd:7dc2c1b8d1a46f5c1d4c9c7a7b1f7f5e
a=ice-ufrag:2d7d3c81
a=mid:2
a=setup:actpass
a=sctp-port:5000
a=max-message-size:1073741823
"),
    ("seen by a relay", "
v=0
o=- 99 3 IN IP4 203.0.113.5
s=-
c=IN IP4 203.0.113.5
t=0 0
a=rtpengine:ff45f3b0a95c
a=ice-lite
m=audio 30000 RTP/AVP 0
a=rtpmap:0 PCMU/8000
a=sendrecv
a=rtcp:30001
a=maxptime:60
"),
];
