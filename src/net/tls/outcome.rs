//! How a handshake ended, for those who count.

use rustls::{AlertDescription, Error, InvalidMessage, PeerIncompatible, PeerMisbehaved};

use crate::observe::Handshake;

/// What a handshake with a client failed of.
pub fn outcome(error: &Error) -> Handshake {
    match error {
        Error::PeerIncompatible(why) => incompatible(why),
        Error::NoApplicationProtocol => Handshake::Protocol,
        Error::NoCertificatesPresented => Handshake::ClientCertificateMissing,
        Error::InvalidCertificate(_) => Handshake::ClientCertificateBad,
        Error::AlertReceived(alert) => alerted(*alert),
        Error::InvalidMessage(why) => invalid(*why),
        // Bytes that are TLS in their form, and no ClientHello: a scan, or half of something.
        Error::InappropriateMessage { .. } | Error::InappropriateHandshakeMessage { .. } => {
            Handshake::Broken
        }
        Error::PeerMisbehaved(PeerMisbehaved::SelectedUnofferedKxGroup) => Handshake::Cipher,
        Error::PeerMisbehaved(_) | Error::DecryptError | Error::PeerSentOversizedRecord => {
            Handshake::Broken
        }
        _ => Handshake::Internal,
    }
}

fn incompatible(why: &PeerIncompatible) -> Handshake {
    match why {
        PeerIncompatible::ServerDoesNotSupportTls12Or13
        | PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig
        | PeerIncompatible::SupportedVersionsExtensionRequired
        | PeerIncompatible::Tls12NotOffered
        | PeerIncompatible::Tls12NotOfferedOrEnabled => Handshake::Version,
        _ => Handshake::Cipher,
    }
}

fn alerted(alert: AlertDescription) -> Handshake {
    match alert {
        AlertDescription::BadCertificate
        | AlertDescription::UnsupportedCertificate
        | AlertDescription::CertificateRevoked
        | AlertDescription::CertificateExpired
        | AlertDescription::CertificateUnknown
        | AlertDescription::UnknownCA
        | AlertDescription::UnrecognisedName
        | AlertDescription::BadCertificateStatusResponse => Handshake::Certificate,
        AlertDescription::ProtocolVersion => Handshake::Version,
        AlertDescription::HandshakeFailure | AlertDescription::InsufficientSecurity => {
            Handshake::Cipher
        }
        AlertDescription::NoApplicationProtocol => Handshake::Protocol,
        AlertDescription::CloseNotify | AlertDescription::UserCanceled => Handshake::ClientGone,
        _ => Handshake::Broken,
    }
}

fn invalid(why: InvalidMessage) -> Handshake {
    match why {
        // The first bytes are those of no record: a request in the clear, SSH, chance.
        InvalidMessage::InvalidContentType
        | InvalidMessage::UnknownProtocolVersion
        | InvalidMessage::InvalidEmptyPayload
        | InvalidMessage::MessageTooLarge => Handshake::NotTls,
        _ => Handshake::Broken,
    }
}
