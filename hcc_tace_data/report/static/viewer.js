"use strict";
(async () => {
  const one = (selector) => document.querySelector(selector);
  const body = document.body;
  const say = (text, state) => { one("#status").textContent = text; if (state) body.dataset.state = state; };
  const WINDOWS = [
    ["Abdomen", 50, 400], ["Liver", 90, 160], ["Angio", 200, 600], ["Lung", -600, 1500], ["Bone", 400, 1800],
  ];
  const fail = (error) => say(error && error.message ? error.message : String(error), "error");
  addEventListener("unhandledrejection", (event) => fail(event.reason));

  const query = location.search; // ?patient=... of the pages reached from the first
  const patient = await (await fetch(`patient.json${query}`)).json();
  document.title = `${patient.patient}, HCC-TACE viewer`;
  one("#patient").textContent = patient.patient;
  const others = patient.patients || [];
  for (const [id, step] of [["#previous", -1], ["#next", 1]]) {
    const other = others[others.indexOf(patient.patient) + step];
    const link = one(id);
    link.hidden = !other;
    if (other) {
      link.href = `?patient=${encodeURIComponent(other)}`;
      link.title = `${other} (${step < 0 ? "p" : "n"})`;
    }
  }
  const state = { volume: -1, window: 0, view: 0, hidden: new Set(), labels: true, busy: false, carried: false };

  const { Niivue } = globalThis.niivue;
  const nv = new Niivue({
    backColor: [0, 0, 0, 1], crosshairWidth: 0, show3Dcrosshair: false, logLevel: "error",
    isRadiologicalConvention: true, isNearestInterpolation: false, loadingText: "", isColorbar: false, dragAndDropEnabled: false,
    fontMinPx: 11,
  });
  await nv.attachToCanvas(one("#canvas"));
  // NiiVue's cross-hair is a tube as wide as the zoom makes it; this one is drawn over its slices, one device pixel wide
  const canvas = one("#canvas"), sheet = one("#crosshair"), pen = sheet.getContext("2d");
  const ACROSS_UP = [[0, 1], [0, 2], [1, 2]]; // the volume's axes to the right and upwards: axial, coronal, sagittal
  const drawCross = () => {
    // the sheet's edges are device pixels, or the browser would smear each line over two
    const box = canvas.getBoundingClientRect(), ratio = devicePixelRatio;
    const [left, top, right, bottom] = [box.left, box.top, box.right, box.bottom].map((edge) => Math.round(edge * ratio));
    sheet.width = right - left; // also wipes it
    sheet.height = bottom - top;
    Object.assign(sheet.style, {
      left: `${left / ratio - box.left}px`, top: `${top / ratio - box.top}px`,
      width: `${sheet.width / ratio}px`, height: `${sheet.height / ratio}px`,
    });
    if (!nv.volumes[0]) return;
    pen.fillStyle = "rgb(255 255 255 / .8)";
    for (const { axCorSag } of nv.screenSlices) {
      if (!ACROSS_UP[axCorSag]) continue;
      const at = (axis, fraction) => {
        const place = [...nv.scene.crosshairPos];
        if (axis !== undefined) place[axis] = fraction;
        const [x, y] = nv.frac2canvasPosWithTile(place, axCorSag)?.pos ?? [NaN, NaN];
        return [Math.floor(x * sheet.width / canvas.width), Math.floor(y * sheet.height / canvas.height)];
      };
      const [across, up] = ACROSS_UP[axCorSag], [x, y] = at();
      const sides = [at(across, 0)[0], at(across, 1)[0]], ends = [at(up, 0)[1], at(up, 1)[1]];
      pen.fillRect(Math.min(...sides), y, Math.abs(sides[1] - sides[0]), 1);
      pen.fillRect(x, Math.min(...ends), 1, Math.abs(ends[1] - ends[0]));
    }
  };
  const drawSlices = nv.drawScene.bind(nv);
  nv.drawScene = () => { const drawn = drawSlices(); drawCross(); return drawn; };
  const VIEWS = [["Axial", nv.sliceTypeAxial], ["Coronal", nv.sliceTypeCoronal], ["Sagittal", nv.sliceTypeSagittal],
    ["All planes", nv.sliceTypeMultiplanar]];

  // a row of buttons of which one is chosen
  const radios = (place, entries, choose) => {
    const buttons = entries.map(([name, note], index) => {
      const button = document.createElement("button");
      button.type = "button";
      button.setAttribute("role", "radio");
      button.setAttribute("aria-checked", "false");
      button.textContent = name;
      if (note) { const small = document.createElement("small"); small.textContent = note; button.append(small); }
      button.addEventListener("click", () => choose(index));
      one(place).append(button);
      return button;
    });
    return (index) => {
      buttons.forEach((button, number) => button.setAttribute("aria-checked", String(number === index)));
      if (place === "#phases") buttons[index]?.scrollIntoView({ block: "nearest", inline: "center" });
    };
  };

  const hex = (colour) => [1, 3, 5].map((place) => parseInt(colour.slice(place, place + 2), 16));
  const paint = () => {
    const overlay = nv.volumes[1];
    if (!overlay) return;
    const map = { R: [0], G: [0], B: [0], A: [0], I: [0], labels: [""] };
    for (const item of patient.classes) {
      const [r, g, b] = hex(item.colour);
      map.R.push(r); map.G.push(g); map.B.push(b); map.I.push(item.number); map.labels.push(item.name);
      map.A.push(state.hidden.has(item.number) ? 0 : 255);
    }
    overlay.setColormapLabel(map);
    const outline = one("#outline").checked;
    overlay.filled ||= overlay.img;
    // hidden labels leave the image: a transparent colour would still tint the edges of its neighbours
    const image = outline ? (overlay.rim ||= rim(overlay.filled, overlay.hdr.dims)) : overlay.filled;
    overlay.img = state.hidden.size ? image.map((value) => state.hidden.has(value) ? 0 : value) : image;
    const opacity = Number(one("#opacity").value);
    overlay.opacity = state.labels ? (outline ? Math.max(opacity, 0.9) : opacity) : 0;
    mark();
    nv.updateGLVolume();
  };
  // carried labels are marked wherever they are shown
  const mark = () => { one("#carried").hidden = !(state.carried && state.labels); };
  // the voxels of each label that touch another one, or none, within their slice
  const rim = (image, [, width]) => {
    const result = new image.constructor(image.length);
    for (let place = width; place < image.length - width; place++) {
      const value = image[place];
      if (value && (image[place - 1] !== value || image[place + 1] !== value
        || image[place - width] !== value || image[place + width] !== value)) result[place] = value;
    }
    return result;
  };

  const showWindow = radios("#windows", WINDOWS.map(([name, level, width]) => [name, `${level} / ${width}`]), (index) => {
    state.window = index;
    showWindow(index);
    const [, level, width] = WINDOWS[index];
    if (!nv.volumes[0]) return;
    nv.volumes[0].cal_min = level - width / 2;
    nv.volumes[0].cal_max = level + width / 2;
    nv.updateGLVolume();
    body.dataset.window = WINDOWS[index][0];
  });
  const showView = radios("#views", VIEWS, (index) => {
    state.view = index;
    showView(index);
    nv.setSliceType(VIEWS[index][1]);
    slider();
  });
  for (const button of one("#views").children) button.querySelector("small")?.remove();

  const depthAxis = () => ({ Axial: 2, Coronal: 1, Sagittal: 0 })[VIEWS[state.view][0]] ?? 2;
  const voxel = () => nv.frac2vox(nv.scene.crosshairPos);
  const slider = () => {
    if (!nv.volumes[0]) return;
    const axis = depthAxis();
    const size = nv.volumes[0].dimsRAS[axis + 1];
    const input = one("#slice");
    input.max = size - 1;
    input.value = voxel()[axis];
    one("#slice-number").textContent = `${Number(input.value) + 1} / ${size}`;
    body.dataset.slice = input.value;
  };
  const move = (steps) => {
    const step = [0, 0, 0];
    step[depthAxis()] = steps;
    nv.moveCrosshairInVox(...step);
    slider();
  };
  one("#slice").addEventListener("input", (event) => move(event.target.value - voxel()[depthAxis()]));
  nv.onLocationChange = (data) => {
    const values = data.values || [];
    const hu = values[0] ? Math.round(values[0].value) : null;
    const label = values[1] && state.labels ? patient.classes.find((item) => item.number === Math.round(values[1].value)) : null;
    one("#location").textContent = hu === null ? "" : `${hu} HU${label ? `, ${label.name}${state.carried ? " (carried)" : ""}` : ""}`;
    slider();
  };

  const load = async (index) => {
    if (state.busy || index === state.volume || !patient.volumes[index]) return;
    state.busy = true;
    showVolume(index);
    const volume = patient.volumes[index];
    say(`loading ${volume.name.toLowerCase()}, ${volume.visit} …`, "loading");
    const [, level, width] = WINDOWS[state.window];
    const wanted = [{
      url: `ct-${index}.nii${query}`, name: `ct-${index}.nii`, colormap: "gray",
      cal_min: level - width / 2, cal_max: level + width / 2,
    }];
    if (volume.labels) {
      const source = one("#prediction").checked ? "prediction" : "labels";
      wanted.push({ url: `${source}.nii${query}`, name: `${source}.nii`, opacity: 0.45, colormap: "gray" });
    }
    let refused = "";
    try {
      for (const { url } of wanted) {
        const answer = await fetch(url, { method: "HEAD" });
        if (!answer.ok) throw new Error(await (await fetch(url)).text());
      }
      if (volume.carried) {
        say("registering the baseline to this volume …");
        const url = `carried-${index}.nii${query}`;
        const answer = await fetch(url, { method: "HEAD" });
        if (answer.ok) wanted.push({ url, name: `carried-${index}.nii`, opacity: 0.45, colormap: "gray" });
        else refused = await (await fetch(url)).text();
      }
      state.carried = wanted.length > 1 && volume.carried;
      const place = nv.volumes[0] ? [...nv.scene.crosshairPos] : null;
      await nv.loadVolumes(wanted);
      if (place) nv.scene.crosshairPos = place;
      nv.setSliceType(VIEWS[state.view][1]);
      state.volume = index;
      mark();
      paint();
      if (!place && volume.labels) centre();
      slider();
      one("#labels-note").textContent = !patient.labels ? `No labels: ${patient.reason}.`
        : state.carried ? "Drawn on the baseline CT and carried here by its registration to this volume. "
          + "No reader drew on this CT; the tumour may have changed."
        : volume.carried ? refused.trim()
        : `${one("#prediction").checked ? "Predicted" : "Drawn"} on ${volume.annotated ? "this volume."
          : "another phase of this visit; breathing may shift them."}`;
      one("#prediction").disabled = volume.carried;
      body.dataset.volume = String(index);
      say("", "ready");
    } catch (error) {
      fail(error);
    }
    state.busy = false;
  };
  // start where there is most tumour
  const centre = () => {
    const overlay = nv.volumes[1];
    const [, width, height, depth] = overlay.dimsRAS;
    const wanted = patient.classes.find((item) => item.name === "tumour").number;
    let best = -1, most = 0;
    for (let z = 0; z < depth; z++) {
      let count = 0;
      for (let y = 0; y < height; y += 2) for (let x = 0; x < width; x += 2) count += overlay.getValue(x, y, z) === wanted;
      if (count > most) { most = count; best = z; }
    }
    if (best >= 0) move(best - voxel()[2]);
  };
  const showVolume = radios("#phases", patient.volumes.map((volume) => [
    volume.name + (volume.annotated ? " ●" : ""), `${volume.visit} · ${volume.slices} slices`,
  ]), load);

  for (const item of patient.classes) {
    const label = document.createElement("label");
    const box = Object.assign(document.createElement("input"), { type: "checkbox", checked: true });
    box.dataset.label = item.number;
    const swatch = document.createElement("span");
    swatch.className = "swatch";
    swatch.style.background = item.colour;
    box.addEventListener("change", () => { state.hidden[box.checked ? "delete" : "add"](item.number); paint(); });
    label.append(box, swatch, item.name);
    one("#labels").append(label);
  }
  one("#labels-section").hidden = false;
  one("#prediction-row").hidden = !patient.prediction;
  one("#prediction").addEventListener("change", () => { const index = state.volume; state.volume = -1; load(index); });
  one("#opacity").addEventListener("input", paint);
  one("#outline").addEventListener("change", paint);

  addEventListener("keydown", (event) => {
    if (event.target.matches("input[type=range]") || event.ctrlKey || event.metaKey || event.altKey) return;
    const keys = {
      ArrowUp: () => move(1), ArrowDown: () => move(-1), PageUp: () => move(5), PageDown: () => move(-5),
      w: () => one("#windows").children[(state.window + 1) % WINDOWS.length].click(),
      v: () => one("#views").children[(state.view + 1) % VIEWS.length].click(),
      o: () => one("#outline").click(),
      n: () => one("#next").hidden || one("#next").click(),
      p: () => one("#previous").hidden || one("#previous").click(),
      l: () => { state.labels = !state.labels; paint(); },
    };
    const action = keys[event.key] || (/^[1-9]$/.test(event.key) ? () => load(event.key - 1) : null);
    if (!action) return;
    event.preventDefault();
    event.stopPropagation();
    action();
  }, true);

  showWindow(0);
  showView(0);
  body.dataset.window = WINDOWS[0][0];
  globalThis.viewer = nv;
  const first = patient.volumes.findIndex((volume) => volume.annotated);
  await load(Math.max(0, first));
})();
