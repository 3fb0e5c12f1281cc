//! Why there is no ClientHello to act upon: one kind, one reason code, one sentence.
//!
//! Reason codes are stable: they stand in access logs and counters.

/// Declares an error enum together with the table of its reason codes and sentences.
macro_rules! kinds {
    ($(#[$doc:meta])* $name:ident { $($(#[$kind_doc:meta])* $kind:ident = $reason:literal $sentence:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
        pub enum $name { $($(#[$kind_doc])* $kind,)* }

        impl $name {
            /// Every kind, for counters.
            pub const ALL: &[Self] = &[$(Self::$kind),*];

            /// Stable reason code, in snake case.
            #[must_use]
            pub const fn reason(self) -> &'static str {
                match self { $(Self::$kind => $reason,)* }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(match self { $(Self::$kind => $sentence,)* })
            }
        }

        impl std::error::Error for $name {}
    };
}

kinds! {
    /// What a connection that does not speak TLS 1.0 or later begins with.
    NotTls {
        /// A record of another type than handshake, such as an alert (RFC 8446 section 5.1).
        OtherRecord = "other_record" "the connection begins with a TLS record that is no handshake",
        /// A method of HTTP/1, or the preface of HTTP/2.
        PlainHttp = "plain_http" "the client speaks HTTP without TLS",
        /// A PROXY protocol header of version 1 or 2.
        ProxyProtocol = "proxy_protocol" "the connection begins with a PROXY protocol header",
        /// A hello of SSL 2.0, or one in its format that offers more (RFC 6176 section 3 forbids both).
        Ssl2 = "ssl2_hello" "the client sent a hello of SSL 2.0",
        /// A hello that offers nothing above SSL 3.0 (RFC 7568 section 3).
        Ssl3 = "ssl3_hello" "the client offers at most SSL 3.0",
        /// Anything else.
        Unknown = "not_tls" "the first bytes are not TLS",
    }
}

kinds! {
    /// Why a handshake does not begin with a usable ClientHello; no endpoint could serve the connection.
    Malformed {
        /// ALPN extension that is not a list of names, or is empty (RFC 7301 section 3.1).
        BadAlpn = "bad_alpn" "the ALPN extension is not a list of protocol names",
        /// Cipher suites that are none or not of two bytes each (RFC 8446 section 4.1.2).
        BadCipherSuites = "bad_cipher_suites" "the list of cipher suites is empty or of odd length",
        /// No compression method (RFC 8446 section 4.1.2).
        BadCompression = "bad_compression" "the list of compression methods is empty",
        /// A record version that is not `{03,XX}` (RFC 5246 appendix E.1); said of the records behind the first.
        BadRecordVersion = "bad_record_version" "a record of the ClientHello has a version that is not of TLS",
        /// Server name extension that is not a list of names, or is empty (RFC 6066 section 3).
        BadServerNameList = "bad_server_name_list" "the server name extension is not a list of names",
        /// A session id of more than 32 bytes (RFC 8446 section 4.1.2).
        BadSessionId = "bad_session_id" "the session id is longer than 32 bytes",
        /// Supported versions that are none or not of two bytes each (RFC 8446 section 4.2.1).
        BadSupportedVersions = "bad_supported_versions" "the list of supported versions is empty or of odd length",
        /// A `legacy_version` that is not `{03,XX}` (RFC 8446 section 4.1.2, RFC 5246 appendix E.1).
        BadVersion = "bad_version" "the ClientHello has a version that is not of TLS",
        /// Bytes in the hello's last record behind it: the client has nothing to say before the server's answer but
        /// early data, which is in records of its own (RFC 8446 section 5.1).
        BytesBehindHello = "bytes_behind_hello" "the ClientHello's record goes on behind it",
        /// An extension type that is there twice (RFC 8446 section 4.2).
        DuplicateExtension = "duplicate_extension" "an extension is there twice",
        /// A record without content (RFC 8446 section 5.1).
        EmptyRecord = "empty_record" "a record of the ClientHello is empty",
        /// A message beyond [`HELLO_BYTES_MAX`](super::HELLO_BYTES_MAX).
        HelloTooLarge = "hello_too_large" "the ClientHello is longer than 16 KiB",
        /// A handshake message of another type (RFC 8446 section 4).
        NotClientHello = "not_client_hello" "the first handshake message is no ClientHello",
        /// A record of another type before the message ended (RFC 8446 section 5.1).
        OtherRecordBetween = "other_record_between" "a record of another type interrupts the ClientHello",
        /// A record of more than 2^14 bytes (RFC 8446 section 5.1).
        RecordTooLong = "record_too_long" "a record is longer than 16 KiB",
        /// More than one name of type `host_name` (RFC 6066 section 3).
        RepeatedHostName = "repeated_host_name" "the server name extension has more than one host name",
        /// A byte in the host name that no DNS name has, or IPv6 brackets.
        SniBadCharacter = "sni_bad_character" "the server name has a character that no host name has",
        /// A label of the host name that is empty or longer than 63 bytes (RFC 1035 section 2.3.4).
        SniBadLabel = "sni_bad_label" "the server name has an empty label or one longer than 63 bytes",
        /// A host name of no bytes (RFC 6066 section 3).
        SniEmpty = "sni_empty" "the server name is empty",
        /// A host name of more than 253 bytes (RFC 1035 section 2.3.4).
        SniTooLong = "sni_too_long" "the server name is longer than 253 bytes",
        /// A dot at the end of the host name (RFC 6066 section 3: "without a trailing dot").
        SniTrailingDot = "sni_trailing_dot" "the server name ends with a dot",
        /// More than [`RECORDS_MAX`](super::RECORDS_MAX) records.
        TooManyRecords = "too_many_records" "the ClientHello is spread over more than 64 records",
        /// Bytes behind the last field (RFC 8446 section 4.1.2).
        TrailingBytes = "trailing_bytes" "the ClientHello has bytes behind its last field",
        /// A message that ends inside of a field or is too short for all of them (RFC 8446 section 4.1.2).
        Truncated = "truncated" "the ClientHello ends inside of a field",
    }
}
