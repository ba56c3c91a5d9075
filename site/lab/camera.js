// A picture from a camera. Phones open theirs for a file; at a desk the page has to.

const DIALOG = `
<video playsinline muted aria-label="What the camera sees"></video>
<form method="dialog"><button class="md-button md-button--primary" value="take" autofocus>Take the picture</button>
<button class="md-button">Cancel</button></form>`;

// The picture as a PNG file's bytes, or nothing if the reader would rather not. It is taken in a dialog in an element.
export async function take(element) {
    const stream = await navigator.mediaDevices.getUserMedia({video: {width: {ideal: 1280}}}).catch(error => {
        throw new Error(`No camera could be opened: ${error.message}.`);
    });
    const dialog = document.createElement("dialog");
    dialog.className = "camera-view";
    dialog.innerHTML = DIALOG;
    element.append(dialog);
    const video = dialog.querySelector("video"), closed = new Promise(resolve => { dialog.onclose = resolve; });
    try {
        dialog.showModal();
        video.srcObject = stream;
        await Promise.race([video.play(), closed]);
        await closed;
        if (dialog.returnValue !== "take") return null;
        const canvas = new OffscreenCanvas(video.videoWidth, video.videoHeight);
        canvas.getContext("2d").drawImage(video, 0, 0);
        return await canvas.convertToBlob({type: "image/png"});
    } finally {
        stream.getTracks().forEach(track => track.stop());
        dialog.remove();
    }
}
