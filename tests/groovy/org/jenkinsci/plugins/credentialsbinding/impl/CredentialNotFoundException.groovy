package org.jenkinsci.plugins.credentialsbinding.impl

import hudson.AbortException

/** No credentials of that id are in the controller's store. */
class CredentialNotFoundException extends AbortException {
    CredentialNotFoundException(String id) { super("Could not find credentials entry with ID '${id}'") }
}
