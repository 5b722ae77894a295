"use strict";(self.rspackChunkjupyter_displays=self.rspackChunkjupyter_displays||[]).push([[266],{8475(e,o,t){var r=t(1601),i=t.n(r),a=t(6314),n=(t.n(a))()(i());n.push([e.id,`.jp-Display {
  display: flex;
  flex-direction: column;
  height: 100%;
  overflow: hidden;
  position: relative;
  background: var(--jp-layout-color2, #eee);
  color: var(--jp-ui-font-color1, #212121);
  font-family: var(--jp-ui-font-family, system-ui, sans-serif);
  font-size: var(--jp-ui-font-size1, 13px);
}

.jp-Display [hidden] {
  display: none !important;
}

.jp-Display-toolbar {
  align-items: center;
  background: var(--jp-layout-color1, #fff);
  border-bottom: 1px solid var(--jp-border-color1, #bdbdbd);
  box-sizing: border-box;
  display: flex;
  flex: 0 0 28px;
  gap: 2px;
  padding: 0 6px;
}

.jp-Display-title {
  flex: 1 1 auto;
  min-width: 4em;
  overflow: hidden;
  text-overflow: ellipsis;
  white-space: nowrap;
}

.jp-Display-notice,
.jp-Display-badge {
  color: var(--jp-ui-font-color2, #616161);
  margin-right: 8px;
  max-width: 70%;
  overflow: hidden;
  text-overflow: ellipsis;
  white-space: nowrap;
}

.jp-Display-toolbar button,
.jp-Display-toolbar a {
  box-sizing: border-box;
  background: none;
  border: none;
  border-radius: 2px;
  color: inherit;
  cursor: pointer;
  height: 24px;
  padding: 3px;
  width: 24px;
}

.jp-Display-toolbar button:hover,
.jp-Display-toolbar a:hover {
  background: var(--jp-layout-color2, #eee);
}

.jp-Display :focus-visible {
  outline: 2px solid var(--jp-brand-color1, #1976d2);
  outline-offset: -1px;
}

.jp-Display-toolbar svg {
  display: block;
  fill: none;
  height: 18px;
  stroke: currentcolor;
  stroke-linecap: round;
  stroke-linejoin: round;
  stroke-width: 1.6;
  width: 18px;
}

.jp-Display-body {
  flex: 1 1 auto;
  min-height: 0;
  position: relative;
}

.jp-Display-stage {
  inset: 0;
  overflow: hidden;
  position: absolute;
}

.jp-Display-screen {
  align-items: center;
  display: flex;
  inset: 0;
  justify-content: center;
  position: absolute;
  touch-action: none;
}

.jp-Display-screen > canvas {
  display: block;
  flex: none;
  image-rendering: auto;
}

/* It has the focus while one types, and is where input methods show what they compose. */
.jp-Display .jp-Display-input {
  background: transparent;
  border: 0;
  bottom: 0;
  caret-color: transparent;
  color: transparent;
  height: 1.2em;
  left: 50%;
  outline: none;
  overflow: hidden;
  padding: 0;
  pointer-events: none;
  position: absolute;
  resize: none;
  width: 1px;
  z-index: -1;
}

.jp-Display-overlay {
  align-items: center;
  display: flex;
  inset: 0;
  justify-content: center;
  pointer-events: none;
  position: absolute;
}

.jp-Display-status {
  background: var(--jp-layout-color1, #fff);
  border: 1px solid var(--jp-border-color1, #bdbdbd);
  border-radius: 4px;
  box-shadow: 0 2px 8px rgb(0 0 0 / 20%);
  max-width: 80%;
  padding: 8px 20px;
  text-align: center;
}

.jp-Display-drop {
  align-items: center;
  background: color-mix(in srgb, var(--jp-layout-color1, #fff) 85%, transparent);
  border: 2px dashed var(--jp-brand-color1, #1976d2);
  display: flex;
  inset: 4px;
  justify-content: center;
  position: absolute;
}

.jp-Display-stage.jp-mod-bell {
  animation: jp-display-bell 0.2s;
}

@keyframes jp-display-bell {
  50% {
    opacity: 0.7;
  }
}

@media (prefers-reduced-motion: reduce) {
  .jp-Display-stage.jp-mod-bell {
    animation: none;
  }
}

/* In full screen the toolbar waits behind the upper edge, and some of it answers to the pointer there. */
.jp-Display:fullscreen .jp-Display-toolbar {
  height: 28px;
  left: 25%;
  opacity: 0;
  position: absolute;
  right: 25%;
  top: -20px;
  z-index: 2;
}

.jp-Display:fullscreen .jp-Display-toolbar:hover,
.jp-Display:fullscreen .jp-Display-toolbar:focus-within {
  opacity: 1;
  top: 0;
}

.jp-Display-dialog {
  background: var(--jp-layout-color1, #fff);
  border: 1px solid var(--jp-border-color1, #bdbdbd);
  border-radius: 4px;
  color: inherit;
  max-height: 80%;
  max-width: min(640px, 90vw);
  min-width: 320px;
}

.jp-Display-dialog::backdrop {
  background: rgb(0 0 0 / 35%);
}

.jp-Display-dialog h2 {
  font-size: 1.2em;
  margin: 0 0 8px;
}

.jp-Display-dialog label,
.jp-Display-dialog textarea {
  box-sizing: border-box;
  display: block;
  margin-bottom: 8px;
  width: 100%;
}

.jp-Display-dialog textarea,
.jp-Display-dialog input {
  background: var(--jp-layout-color0, #fff);
  border: 1px solid var(--jp-border-color1, #bdbdbd);
  color: inherit;
  font: inherit;
}

.jp-Display-dialog footer {
  display: flex;
  gap: 8px;
  justify-content: flex-end;
  margin-top: 12px;
}

.jp-Display-dialog button,
.jp-Display-status button {
  background: var(--jp-layout-color2, #eee);
  border: 1px solid var(--jp-border-color1, #bdbdbd);
  border-radius: 2px;
  color: inherit;
  cursor: pointer;
  font: inherit;
  padding: 4px 10px;
}

.jp-Display-status button {
  pointer-events: auto;
}

.jp-Display-keys {
  display: grid;
  gap: 6px;
  grid-template-columns: repeat(3, 1fr);
}

.jp-Display-dialog button.jp-mod-warn {
  background: var(--jp-warn-color-normal, #d32f2f);
  border-color: transparent;
  color: #fff;
}

.jp-Display-list {
  list-style: none;
  margin: 0;
  padding: 0;
}

.jp-Display-list li {
  align-items: center;
  display: flex;
  gap: 8px;
  justify-content: space-between;
  padding: 3px 0;
}

.jp-Display-list input {
  flex: 1 1 auto;
}

.jp-Display-error {
  color: var(--jp-error-color1, #d32f2f);
}

.jp-Display-error:empty {
  display: none;
}

.jp-Display-dialog a {
  color: var(--jp-content-link-color, #1565c0);
}

.jp-Display-picture {
  background: var(--jp-layout-color0, #fff);
  border: 1px solid var(--jp-border-color1, #bdbdbd);
  box-shadow: 0 2px 8px rgb(0 0 0 / 30%);
  display: block;
  max-width: 320px;
  pointer-events: none;
  position: fixed;
  z-index: 10000;
}

.jp-DisplayWidget {
  min-height: 150px;
  min-width: 200px;
}

.jp-Display-dialog p > button + button {
  margin-left: 6px;
}

/* In the list of what runs the facts are in a line of their own: a side bar has no room for both beside each other. */
.jp-mod-display::part(positioning-region),
.jp-mod-display::part(content-region) {
  height: auto;
}

.jp-mod-display::part(content-region) {
  display: grid;
  grid-template-columns: auto 1fr auto;
  padding: 2px 0;
}

.jp-mod-display::part(start),
.jp-mod-display::part(end) {
  grid-row: 1 / 3;
}

.jp-mod-display::part(end) {
  grid-column: 3;
}

.jp-mod-display .jp-RunningSessions-itemLabel,
.jp-mod-display .jp-RunningSessions-itemDetail {
  grid-column: 2;
  line-height: 1.3;
  padding: 0;
}

.jp-mod-display .jp-RunningSessions-itemDetail {
  color: var(--jp-ui-font-color2);
  font-size: var(--jp-ui-font-size0);
}
`,""]),t.d(o,{},{A:n})},2646(e,o,t){var r=t(1601),i=t.n(r),a=t(6314),n=t.n(a),p=t(8475),s=n()(i());s.i(p.A),s.push([e.id,`
`,""]),t.d(o,{},{A:s})},6314(e){e.exports=function(e){var o=[];return o.toString=function(){return this.map(function(o){var t="",r=void 0!==o[5];return o[4]&&(t+="@supports (".concat(o[4],") {")),o[2]&&(t+="@media ".concat(o[2]," {")),r&&(t+="@layer".concat(o[5].length>0?" ".concat(o[5]):""," {")),t+=e(o),r&&(t+="}"),o[2]&&(t+="}"),o[4]&&(t+="}"),t}).join("")},o.i=function(e,t,r,i,a){"string"==typeof e&&(e=[[null,e,void 0]]);var n={};if(r)for(var p=0;p<this.length;p++){var s=this[p][0];null!=s&&(n[s]=!0)}for(var l=0;l<e.length;l++){var d=[].concat(e[l]);r&&n[d[0]]||(void 0!==a&&(void 0===d[5]||(d[1]="@layer".concat(d[5].length>0?" ".concat(d[5]):""," {").concat(d[1],"}")),d[5]=a),t&&(d[2]&&(d[1]="@media ".concat(d[2]," {").concat(d[1],"}")),d[2]=t),i&&(d[4]?(d[1]="@supports (".concat(d[4],") {").concat(d[1],"}"),d[4]=i):d[4]="".concat(i)),o.push(d))}},o}},1601(e){e.exports=function(e){return e[1]}},8665(e,o,t){t.r(o);var r=t(5072),i=t.n(r),a=t(7825),n=t.n(a),p=t(7659),s=t.n(p),l=t(5056),d=t.n(l),c=t(540),u=t.n(c),f=t(1113),y=t.n(f),b=t(2646),h={};h.styleTagTransform=y(),h.setAttributes=d(),h.insert=s().bind(null,"head"),h.domAPI=n(),h.insertStyleElement=u(),i()(b.A,h);let g=b.A&&b.A.locals?b.A.locals:void 0;t.d(o,{},{default:g})},5072(e){var o=[];function t(e){for(var t=-1,r=0;r<o.length;r++)if(o[r].identifier===e){t=r;break}return t}function r(e,r){for(var i={},a=[],n=0;n<e.length;n++){var p=e[n],s=r.base?p[0]+r.base:p[0],l=i[s]||0,d="".concat(s," ").concat(l);i[s]=l+1;var c=t(d),u={css:p[1],media:p[2],sourceMap:p[3],supports:p[4],layer:p[5]};if(-1!==c)o[c].references++,o[c].updater(u);else{var f=function(e,o){var t=o.domAPI(o);return t.update(e),function(o){o?(o.css!==e.css||o.media!==e.media||o.sourceMap!==e.sourceMap||o.supports!==e.supports||o.layer!==e.layer)&&t.update(e=o):t.remove()}}(u,r);r.byIndex=n,o.splice(n,0,{identifier:d,updater:f,references:1})}a.push(d)}return a}e.exports=function(e,i){var a=r(e=e||[],i=i||{});return function(e){e=e||[];for(var n=0;n<a.length;n++){var p=t(a[n]);o[p].references--}for(var s=r(e,i),l=0;l<a.length;l++){var d=t(a[l]);0===o[d].references&&(o[d].updater(),o.splice(d,1))}a=s}}},7659(e){var o={};e.exports=function(e,t){var r=function(e){if(void 0===o[e]){var t=document.querySelector(e);if(window.HTMLIFrameElement&&t instanceof window.HTMLIFrameElement)try{t=t.contentDocument.head}catch(e){t=null}o[e]=t}return o[e]}(e);if(!r)throw Error("Couldn't find a style target. This probably means that the value for the 'insert' parameter is invalid.");r.appendChild(t)}},540(e){e.exports=function(e){var o=document.createElement("style");return e.setAttributes(o,e.attributes),e.insert(o,e.options),o}},5056(e,o,t){e.exports=function(e){var o=t.nc;o&&e.setAttribute("nonce",o)}},7825(e){e.exports=function(e){if("u"<typeof document)return{update:function(){},remove:function(){}};var o=e.insertStyleElement(e);return{update:function(t){var r,i,a;r="",t.supports&&(r+="@supports (".concat(t.supports,") {")),t.media&&(r+="@media ".concat(t.media," {")),(i=void 0!==t.layer)&&(r+="@layer".concat(t.layer.length>0?" ".concat(t.layer):""," {")),r+=t.css,i&&(r+="}"),t.media&&(r+="}"),t.supports&&(r+="}"),(a=t.sourceMap)&&"u">typeof btoa&&(r+="\n/*# sourceMappingURL=data:application/json;base64,".concat(btoa(unescape(encodeURIComponent(JSON.stringify(a))))," */")),e.styleTagTransform(r,o,e.options)},remove:function(){var e;null===(e=o).parentNode||e.parentNode.removeChild(e)}}}},1113(e){e.exports=function(e,o){if(o.styleSheet)o.styleSheet.cssText=e;else{for(;o.firstChild;)o.removeChild(o.firstChild);o.appendChild(document.createTextNode(e))}}}}]);