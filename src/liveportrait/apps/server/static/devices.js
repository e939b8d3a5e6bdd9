// Access to the camera and the microphone.

// Opens a device's stream. Throws an Error whose message is a sentence for the page.
export async function granted(constraints, name) {
  if (!navigator.mediaDevices) {
    throw new Error(`Browsers allow the ${name} only on https pages or at localhost: open the page there.`);
  }
  const sentences = {
    NotAllowedError: `The ${name} is blocked: allow it next to the address bar, then start again.`,
    NotFoundError: `No ${name} was found: plug one in, then start again.`,
    NotReadableError: `The ${name} cannot be opened: close other programs that use it, then start again.`,
  };
  try {
    return await navigator.mediaDevices.getUserMedia(constraints);
  } catch (error) {
    throw new Error(sentences[error.name] ?? `The ${name} cannot be used: ${error.message}`);
  }
}

export function stopTracks(media) {
  media?.getTracks().forEach((track) => track.stop());
}
